#!/usr/bin/env bash
# PyTorch 2.13.0, on a CPU (seen 2026-11-28; 2.14.1 does the same).
#
# Two functions have a wrong first derivative in forward mode (`torch.func.jvp`, `jacfwd`, dual numbers), without a
# word, while backward mode is right. `scatter_reduce(reduce="prod")` has none at all, in either argument: dual
# numbers come out without a tangent, `jacfwd` is zero. Its other reductions are right, and `index_reduce`, which does
# the same, raises that it has no forward mode. The derivative of `cholesky_inverse` is of the size of the right one,
# and another; the inverse of L L^T written out has the right one.
#
# Output seen, derivatives along a line in forward mode, in backward mode and by differences
#   scatter_reduce prod 0 24 24 (in its sources), 0 83 83 (in what they go into)    cholesky_inverse -0.00463 0.01852 0.01852
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6 2> /dev/null
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch.autograd import forward_ad
from torch.func import jvp, vjp

places = torch.tensor([0, 1, 0])
into = torch.tensor([2.0, 3.0], dtype=torch.float64)
values = torch.tensor([5.0, 7.0, 11.0], dtype=torch.float64)
factor = torch.tensor([[2.0, 0.0], [1.0, 3.0]], dtype=torch.float64)


def both(function, x):
    """The derivative of a weighted sum along a line: by forward and by backward mode, and by differences."""
    along = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64)[: x.numel()].view_as(x)
    along = along.tril() if x.dim() == 2 else along
    f = lambda x: (function(x).flatten() * torch.arange(1.0, 1 + function(x).numel())).sum()
    forward = jvp(f, (x,), (along,))[1]
    backward = (vjp(f, x)[1](torch.ones((), dtype=torch.float64))[0] * along).sum()
    differences = (f(x + 1e-6 * along) - f(x - 1e-6 * along)) / 2e-6
    return float(forward), float(backward), float(differences)


wrong = {
    "scatter_reduce prod": (lambda s: into.scatter_reduce(0, places, s, "prod"), values),
    "scatter_reduce prod, into": (lambda x: x.scatter_reduce(0, places, values, "prod"), into),
    "cholesky_inverse": (torch.cholesky_inverse, factor),
}
right = {
    **{
        f"scatter_reduce {name}": (lambda s, name=name: into.scatter_reduce(0, places, s, name), values)
        for name in ("sum", "mean", "amax", "amin")
    },
    "inverse of L L^T": (lambda low: torch.linalg.inv(low @ low.mT), factor),
}
for name, (function, x) in {**wrong, **right}.items():
    forward, backward, differences = both(function, x)
    print(f"{name:26s} forward {forward:.4g}  backward {backward:.4g}  differences {differences:.4g}")
    assert abs(backward - differences) < 1e-6 * (1 + abs(backward)), f"{name}: backward mode"
    differs = abs(forward - backward) > 0.05 * abs(backward)
    assert differs == (name in wrong), f"{name}: the behaviour has changed"
with forward_ad.dual_level():
    dual = forward_ad.make_dual(values, torch.ones_like(values))
    assert forward_ad.unpack_dual(into.scatter_reduce(0, places, dual, "prod")).tangent is None
try:
    jvp(lambda s: into.index_reduce(0, places, s, "prod"), (values,), (values,))
except NotImplementedError as error:
    print("index_reduce:", str(error)[:60])
else:
    raise AssertionError("index_reduce has a forward mode now")
PYTHON
echo "as described"
