#!/usr/bin/env bash
# executorch 1.5.1 with torch 2.14.1, on a CPU (seen 2026-11-28).
#
# One would guess that a program exported for batches of 1 to 100 still takes 100 after `to_edge`. So it does,
# unless pixels are sliced out of an image before a convolution (`x[:, :, ::2, ::2]`, as in a factorised
# reduction of DARTS): the lowering then asks whether the example has 16 images or more, keeps the answer as a
# fact about all batches, and says nothing. With an example of 2 the range of the same program falls from
# [1, 100] to [2, 15], and the runtime refuses 16 images with "failed with error 0x10". `torch.export` itself,
# its decompositions and a `.contiguous()` after the slice leave the range alone. A second surprise of the same
# kind: a dimension without an upper bound is not refused, but has the example's size as its bound.
#
# Output seen: slice [2, 15], takes 15 of 1, 15, 16, 100; contiguous [2, 100], takes all; without a bound 2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet executorch==1.5.1 torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - 2> "$folder/log" <<'PYTHON' || { tail -5 "$folder/log"; exit 1; }
import torch
from executorch.exir import to_edge
from executorch.runtime import Runtime
from torch import nn
from torch.export import Dim


class Net(nn.Module):
    def __init__(self, pick):
        super().__init__()
        self.pick, self.conv = pick, nn.Conv2d(8, 8, 1, bias=False)

    def forward(self, x):
        return self.conv(self.pick(x))


def lowered(pick, most):
    """The range after lowering, and which of some batches the program computes right."""
    net, batch = Net(pick).eval(), Dim("batch", min=1, max=most)
    with torch.no_grad():
        program = torch.export.export(net, (torch.randn(2, 8, 8, 8),), dynamic_shapes=({0: batch},))
        (asked,) = program.run_decompositions().range_constraints.values()
        assert asked.lower == 1 and (most is None or asked.upper == most)
        edge = to_edge(program)
        (found,) = edge.exported_program().range_constraints.values()
        buffer = edge.to_executorch().buffer
        loaded = Runtime.get().load_program(buffer)
        method, takes = loaded.load_method("forward"), []
        for n in (1, 2, 3, 15, 16, 100):
            x = torch.randn(n, 8, 8, 8)
            try:
                y = method.execute([x])[0]
            except RuntimeError:
                continue
            assert torch.allclose(y, net(x), atol=1e-5)
            takes.append(n)
    return (str(found.lower), str(found.upper)), takes


whole, takes = lowered(lambda x: x, 100)
print("no slice", whole, takes)
assert whole[1] == "100" and takes == [1, 2, 3, 15, 16, 100]

sliced, takes = lowered(lambda x: x[:, :, ::2, ::2], 100)
print("slice", sliced, takes)
assert sliced == ("2", "15") and takes == [1, 2, 3, 15], "the behaviour has changed"

dense, takes = lowered(lambda x: x[:, :, ::2, ::2].contiguous(), 100)
print("slice, contiguous", dense, takes)
assert dense[1] == "100" and takes == [1, 2, 3, 15, 16, 100]

_, takes = lowered(lambda x: x, None)
print("no upper bound", takes)
assert takes == [1, 2], "the behaviour has changed"
PYTHON
echo "as described"
