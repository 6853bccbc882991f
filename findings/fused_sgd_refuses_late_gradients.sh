#!/usr/bin/env bash
# PyTorch 2.13.0, on a CPU (seen 2026-11-27; 2.14.1 does the same).
#
# `torch.optim.SGD(momentum=..., fused=True)` makes the momentum buffers of all parameters in one go, in
# the step in which none has one. A parameter that gets its first gradient later, as every operation of a
# supernet does whose paths are sampled one by one, has no buffer then, and `step` raises a `TypeError`
# about an element of an argument, naming neither the parameter nor the reason. With `foreach=True` and
# with the plain loop the same steps run and agree to the bit; so does `fused=True` without momentum,
# and Adam, whose state is made per parameter.
#
# Output seen: TypeError: expected Tensor as element 2 in argument 2, but got NoneType
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn


def sampled_paths(make):
    """Three steps of two candidates of which the second is drawn in the second step at first."""
    torch.manual_seed(0)
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    parameters = [*first.parameters(), *second.parameters()]
    optimizer = make(parameters)
    for drawn in (first, second, first):
        optimizer.zero_grad(set_to_none=True)
        (first(torch.ones(2, 3)) + drawn(torch.ones(2, 3))).pow(2).sum().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in parameters])


def sgd(momentum=0.9, **way):
    return lambda parameters: torch.optim.SGD(parameters, 0.01, momentum, **way)


plain = sampled_paths(sgd(foreach=False))
assert torch.equal(plain, sampled_paths(sgd(foreach=True)))
assert torch.allclose(sampled_paths(sgd(0.0, fused=True)), sampled_paths(sgd(0.0, foreach=False)))
adam = [sampled_paths(lambda p, f=f: torch.optim.Adam(p, 0.01, fused=f)) for f in (False, True)]
assert torch.allclose(*adam, atol=1e-5)
try:
    sampled_paths(sgd(fused=True))
except TypeError as error:
    print("TypeError:", error)
    assert "but got NoneType" in str(error), "the behaviour has changed"
else:
    raise SystemExit("the behaviour has changed: fused SGD takes late gradients")
PYTHON
echo "as described"
