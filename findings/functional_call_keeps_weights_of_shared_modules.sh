#!/usr/bin/env bash
# PyTorch 2.13.0, on a CPU (seen 2026-11-28; 2.14.1 does the same; pytorch/pytorch issue 164759, open).
#
# `torch.func.functional_call` promises to run a module with other weights and to leave it as it was. A
# module that stands in two places, as a part called twice does, keeps the other weights afterwards: its
# `weight` is the tensor that was handed over, no parameter any more, and under `vmap` or `jacrev` a tensor
# of a transform that is over. Every later output of the network is silently another one. With
# `tie_weights=False` and a value for each tensor by one of its names the module is left as it was.
#
# Output seen: 3.0 before, 0.0 after one call with zeros; the weight is no parameter of the module.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn
from torch.func import functional_call

x = torch.ones(1, 3)


def network():
    part = nn.Linear(3, 3, bias=False)
    nn.init.constant_(part.weight, 1 / 3)
    return nn.Sequential(part, nn.Sequential(part))


for tie, kept in ((True, False), (False, True)):
    net = network()
    before = net(x).sum().item()
    functional_call(net, {"0.weight": torch.zeros(3, 3)}, (x,), tie_weights=tie)
    after = net(x).sum().item()
    print(f"tie_weights={tie}: {before:.1f} before, {after:.1f} after, {type(net[0].weight).__name__}")
    assert (after == before) == kept, "the behaviour has changed"
    assert isinstance(net[0].weight, nn.Parameter) == kept, "the behaviour has changed"
PYTHON
echo "as described"
