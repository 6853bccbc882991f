#!/usr/bin/env bash
# PyTorch 2.13.0, on a CPU (seen 2026-11-27; 2.14.1 does the same).
#
# The backward pass of batch norm reads its weight as if it were contiguous, if the images are in
# channels_last. A weight whose stride is not 1 is legal there: one scale that all channels share
# (`expand`, as a parametrisation makes it), or the column of a table of scales. The forward pass is
# right, and so are contiguous images, group norm, instance norm and layer norm; the gradient of the
# images is silently another one. (In evaluation the same holds of a strided running variance.)
#
# A batch of one image has a second case, in evaluation: tokens [1, pixels, channels] that were turned
# into an image by `mT.reshape(1, channels, ...)` are channels_last but for the stride of the batch,
# which then means nothing. A contiguous gradient of them is read as if it were channels_last, too, so
# numbers stand at other channels and pixels. Two images are right.
#
# Output seen: with the scales of all 8 channels tied to the first of the 8 numbers 1..8, the gradient of
# channel c (from 0) is c + 1 times what it should be; a contiguous copy of the same weight is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn
from torch.nn.utils import parametrize

torch.manual_seed(0)
images, gradient = torch.randn(2, 4, 8, 6, 6, dtype=torch.float64).unbind()
table = torch.arange(1.0, 9.0, dtype=torch.float64)


class Tied(nn.Module):
    """All channels take the first scale of the table; every read stays inside the table."""

    def forward(self, scales):
        return scales[:1].expand(8)


def image_gradient(call, layout):
    x = images.clone(memory_format=layout).requires_grad_()
    y = call(x)
    y.backward(gradient.contiguous(memory_format=layout))
    return y.detach(), x.grad


norm = nn.BatchNorm2d(8).double()
with torch.no_grad():
    norm.weight.copy_(table)
parametrize.register_parametrization(norm, "weight", Tied())
plain = nn.BatchNorm2d(8).double()  # its weights are ones, as the tied ones are
found = {}
for name, layout in (("contiguous", torch.contiguous_format), ("last", torch.channels_last)):
    (y, g), (expected, right) = image_gradient(norm, layout), image_gradient(plain, layout)
    assert torch.allclose(y, expected)
    found[name] = [round(float((g[:, c] / right[:, c]).median()), 6) for c in range(8)]
    print(f"training, {name}: gradient over the right one, by channel: {found[name]}")
assert found["contiguous"] == [1.0] * 8
assert found["last"] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], "the behaviour has changed"

fresh = nn.BatchNorm2d(8).double().eval()  # mean 0, variance 1: gradients pass, but for eps
for count, is_right in ((1, False), (2, True)):
    tokens = torch.randn(count, 36, 8, dtype=torch.float64, requires_grad=True)
    x = tokens.mT.reshape(count, 8, 6, 6)
    (g,) = torch.autograd.grad(fresh(x), x, gradient[:count].contiguous())
    ratio = g * (1 + fresh.eps) ** 0.5 / gradient[:count]
    share = float((ratio - 1).abs().lt(1e-6).double().mean())
    print(f"evaluation, {count} of tokens, strides {x.stride()}: {share:.0%} of the gradient is right")
    assert (share == 1) == is_right, "the behaviour has changed"
PYTHON
echo "as described"
