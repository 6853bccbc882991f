#!/usr/bin/env bash
# PyTorch 2.14.1, torchvision 0.29.1, on a CPU (seen 2026-11-29).
#
# A convolution with groups in float64 is as many convolutions as it has groups, one after the other, and its
# backward pass too; in float32 and bfloat16 it is one call of oneDNN. What is computed in float64 to be exact
# (SynFlow, tangent kernels, gradients to compare with) is therefore slow on networks of depthwise convolutions
# by the number of calls, not by arithmetic: a pass of MobileNetV2 over one image calls 7,171 convolutions where
# float32 calls 52. With dilation the forward pass does the same under another name (`slow_conv_dilated2d`).
# `F.unfold` and a product are the same numbers in two calls.
#
# Output seen:
#   float32: 1 forward, 1 backward
#   float64: 96 forward, 96 backward; dilated 96
#   MobileNetV2: float32 52, float64 7171
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 torchvision==0.29.1 numpy==2.2.6 2> /dev/null
"$folder/venv/bin/python" - 2> /dev/null <<'PYTHON'
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torchvision.models import mobilenet_v2

FORWARD = ("aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "aten::slow_conv_dilated2d")


def calls(run, names):
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    return sum(event.count for event in profiled.key_averages() if event.key in names)


def depthwise(dtype, dilation=1):
    x = torch.randn(1, 96, 8, 8, dtype=dtype, requires_grad=True)
    w = torch.randn(96, 1, 3, 3, dtype=dtype, requires_grad=True)
    return x, w, lambda: F.conv2d(x, w, padding=dilation, dilation=dilation, groups=96)


found = {}
for dtype, backward in ((torch.float32, "aten::convolution_backward"), (torch.float64, "aten::_slow_conv2d_backward")):
    _, _, run = depthwise(dtype)
    y = run()
    found[dtype] = calls(run, FORWARD), calls(y.sum().backward, (backward,))
dilated = calls(depthwise(torch.float64, 2)[2], FORWARD)
x, w, run = depthwise(torch.float64)
product = w.flatten(1)[:, None] @ F.unfold(x, 3, padding=1).unflatten(1, (96, 9))
assert torch.allclose(product.view(1, 96, 8, 8), run(), rtol=1e-12, atol=1e-12)
net, image = mobilenet_v2().eval(), torch.randn(1, 3, 32, 32)
with torch.no_grad():
    whole = [calls(lambda: net.to(d)(image.to(d)), FORWARD) for d in (torch.float32, torch.float64)]
groups = sum(m.groups for m in net.modules() if isinstance(m, torch.nn.Conv2d))
print("float32: {} forward, {} backward".format(*found[torch.float32]))
print("float64: {} forward, {} backward; dilated {}".format(*found[torch.float64], dilated))
print("MobileNetV2: float32 {}, float64 {}".format(*whole))
assert found == {torch.float32: (1, 1), torch.float64: (96, 96)}, "the behaviour has changed"
assert dilated == 96 and whole[1] == groups, "the behaviour has changed"
PYTHON
echo "as described"
