#!/usr/bin/env bash
# NNGeometry 0.4 with PyTorch 2.13.0, on a CPU (seen 2026-11-28; 2.14.1 does the same).
#
# `GramMatrix`, the tangent kernel of a network, is silently wrong for any convolution with groups > 1,
# depthwise ones included: the gradient of every sample is cut out of the input as if all channels
# entered all outputs. With one group it is right to rounding. Nothing is said.
#
# Output seen: relative error of the kernel of five images, small network of two convolutions
#   groups=1 1.1e-07, groups=2 0.23, groups=4 0.31
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6 nngeometry==0.4
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from nngeometry.gram import GramMatrix
from nngeometry.layercollection import LayerCollection
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

OUTPUTS, IMAGES = 3, 5


def error(groups):
    torch.manual_seed(0)
    first, second = nn.Conv2d(4, 8, 3, padding=1, groups=groups), nn.Conv2d(8, 8, 3, groups=groups)
    head = nn.Flatten(), nn.Linear(8 * 16, OUTPUTS)
    net = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), *head).eval()
    x, layers = torch.randn(IMAGES, 4, 6, 6), LayerCollection.from_model(net)
    loader = DataLoader(TensorDataset(x, torch.zeros(IMAGES)), batch_size=IMAGES)
    gram = GramMatrix(net, loader, function=lambda *d: net(d[0]), layer_collection=layers).data
    found = gram.permute(1, 0, 3, 2).reshape(IMAGES * OUTPUTS, -1)
    rows = []
    for image in x:
        for output in net(image[None])[0]:
            gradients = torch.autograd.grad(output, list(net.parameters()), retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in gradients]))
    right = torch.stack(rows) @ torch.stack(rows).T
    return float((found - right).norm() / right.norm())


errors = {groups: error(groups) for groups in (1, 2, 4)}
print({f"groups={groups}": f"{value:.2g}" for groups, value in errors.items()})
assert errors[1] < 1e-5
assert errors[2] > 0.1 and errors[4] > 0.1, "the behaviour has changed"
PYTHON
echo "as described"
