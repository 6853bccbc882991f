#!/usr/bin/env bash
# PyTorch 2.13.0, on a CPU (seen 2026-11-27; 2.14.1 does the same).
#
# `torch.utils.flop_counter.FlopCounterMode` counts the forward pass of a grouped convolution right, and
# the gradient of its input too. For the gradient of the weight it forgets the groups, so that a depthwise
# convolution of C channels is said to cost C times as much there: a backward pass of 1 + C forward passes
# instead of 2. A network of separable convolutions, such as those of the DARTS space, is then said to
# train several times dearer than it does, and one of plain convolutions is not: the two cannot be compared
# by counted training steps, only by counted forward passes.
#
# Output seen: backward over forward 2.0, 9.0 and 65.0 for 64 channels in 1, 8 and 64 groups; a DARTS-like
# separable convolution of 64 channels 9.77 instead of 2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

x = torch.randn(2, 64, 16, 16, requires_grad=True)


def ratio(net):
    """Counted operations of the backward pass over those of the forward pass."""
    with FlopCounterMode(display=False) as forward:
        y = net(x)
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops() / forward.get_total_flops()


for groups in (1, 8, 64):
    convolution = nn.Conv2d(64, 64, 3, padding=1, groups=groups, bias=False)
    forward, times = ratio(convolution)
    print(f"{groups} groups: forward {forward:,}, backward over forward {times}")
    assert forward == 2 * 2 * 16 * 16 * 64 * (64 // groups) * 9  # right
    assert times == 1 + groups, "the behaviour has changed; two is right"  # one product per gradient


def depthwise():
    return nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)


def pointwise():
    return nn.Conv2d(64, 64, 1, bias=False)


forward, times = ratio(nn.Sequential(depthwise(), pointwise(), depthwise(), pointwise()))
print(f"separable convolution: backward over forward {times:.2f}")
share = 9 / (9 + 64)  # of the forward pass that the depthwise convolutions take
assert abs(times - (2 * (1 - share) + 65 * share)) < 1e-9, "the behaviour has changed"
PYTHON
echo "as described"
