#!/usr/bin/env bash
# PyTorch 2.13.0, on a CPU (seen 2026-11-28; 2.14.1 does the same).
#
# `vmap(jacrev(f))`, the way in which torch.func's documentation computes Jacobians per sample, is silently
# wrong for the slope of a PReLU where there are as many samples as outputs: all samples get the rows of
# one mixture of them. With another number of samples it raises an error about sizes. `vmap(grad(sum))`, a
# single sample, and the loop over samples are right; so is the same function written with `torch.where`.
#
# Output seen: 3 samples, 3 outputs: the three samples' rows are equal, though the samples are not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

torch.manual_seed(0)
x, net = torch.randn(4, 3).double(), nn.PReLU().double()
weights = {"weight": net.weight.detach()}


def output(weights, sample):
    return functional_call(net, weights, (sample[None],))[0]


right = torch.where(x > 0, 0.0, x)  # d prelu / d slope
one_by_one = torch.stack([jacrev(output)(weights, sample)["weight"][:, 0] for sample in x])
assert torch.allclose(one_by_one, right)
rows = vmap(jacrev(output), (None, 0))(weights, x[:3])["weight"][..., 0]
print("right:", right[:3].tolist(), "\nfound:", rows.tolist())
assert torch.equal(rows[0], rows[1]) and torch.equal(rows[0], rows[2]), "the behaviour has changed"
assert not torch.allclose(rows, right[:3])
try:
    vmap(jacrev(output), (None, 0))(weights, x)
except RuntimeError as error:
    print("4 samples:", error)
else:
    raise AssertionError("4 samples: the behaviour has changed")
PYTHON
echo "as described"
