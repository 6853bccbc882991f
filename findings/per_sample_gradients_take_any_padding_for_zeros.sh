#!/usr/bin/env bash
# Opacus 1.6.0 and BackPACK 1.7.1 with PyTorch 2.13.0, on a CPU (seen 2026-11-27).
#
# Both compute the gradient of every sample from a convolution's input and the gradient of its output,
# and cut the input into windows anew. They pad it with zeros whatever the layer's `padding_mode` says,
# so the gradients of convolutions that reflect, repeat or wrap their borders are silently others; the
# network's own output and its ordinary `.grad` are right. BackPACK takes `padding="same"` for no padding
# (and refuses it where dilation is not 1). Grouped, strided and dilated convolutions are right in both.
#
# Output seen: relative error of the gradients of five samples, of a small network in double precision
#   opacus    zeros 0, reflect 0.12, circular 0.094, replicate 0.10, same 0
#   backpack  zeros 0, reflect 0.12, circular 0.094, replicate 0.10, same 0.28
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6 opacus==1.6.0 backpack-for-pytorch==1.7.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad
from opacus.grad_sample import GradSampleModule
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
x, y = torch.randn(5, 4, 8, 8).double(), torch.tensor([0, 1, 2, 0, 1])
SETTINGS = {
    "zeros": {"padding": 1},
    "reflect": {"padding": 1, "padding_mode": "reflect"},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "replicate": {"padding": 1, "padding_mode": "replicate"},
    "same": {"padding": "same"},
}


def network(settings):
    torch.manual_seed(1)
    layers = nn.Conv2d(4, 8, 3, **settings), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 3)).double()


def one_by_one(settings):
    net, rows = network(settings), []
    for image, label in zip(x, y):
        net.zero_grad()
        cross_entropy(net(image[None]), label[None]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    return torch.stack(rows)


def by_opacus(settings):
    net = GradSampleModule(network(settings), loss_reduction="sum")
    cross_entropy(net(x), y, reduction="sum").backward()
    return torch.cat([p.grad_sample.flatten(1) for p in net.parameters()], 1)


def by_backpack(settings):
    net, loss = extend(network(settings)), extend(nn.CrossEntropyLoss(reduction="sum"))
    with backpack(BatchGrad()):
        loss(net(x), y).backward()
    return torch.cat([p.grad_batch.flatten(1) for p in net.parameters()], 1)


for name, gradients, wrong in (
    ("opacus", by_opacus, {"reflect", "circular", "replicate"}),
    ("backpack", by_backpack, {"reflect", "circular", "replicate", "same"}),
):
    errors = {}
    for setting, options in SETTINGS.items():
        right = one_by_one(options)
        errors[setting] = float((gradients(options) - right).norm() / right.norm())
    print(name, {setting: f"{error:.2g}" for setting, error in errors.items()})
    for setting, error in errors.items():
        changed = f"{name}, {setting}: the behaviour has changed"
        assert error > 0.05 if setting in wrong else error < 1e-12, changed
PYTHON
echo "as described"
