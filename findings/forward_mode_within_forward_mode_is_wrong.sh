#!/usr/bin/env bash
# PyTorch 2.13.0, on a CPU (seen 2026-11-28; 2.14.1 does the same).
#
# `torch.func.jvp` of a `jvp` is how one takes second derivatives along a line, and Taylor expansions. It is
# silently wrong for layer, batch and instance norms, determinants and `linalg.solve`, and for every
# `torch.autograd.Function`, whose second derivative is zero. The first derivatives are right, and so are the
# second ones of the same norms written out, of group norms and inverses, and of backward within backward passes.
#
# Output seen, second derivatives along a line: by jvp of jvp, and by autograd twice
#   layer_norm 0.987 1.514    batch_norm 6.534 3.917    instance_norm 0.987 1.514    det -1.332 10.39
#   slogdet 0 -4.195    solve -40.74 -69.35    x^3 as a Function 0 12
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import torch.nn.functional as F
from torch.func import jvp

torch.manual_seed(0)
start, direction = torch.randn(2, 3, 3).double()
zero, one = torch.zeros(()).double(), torch.ones(()).double()


class Cube(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_forward(*inputs)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def jvp(ctx, tangent):
        return 3 * ctx.saved_tensors[0] ** 2 * tangent

    @staticmethod
    def backward(ctx, gradient):
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


def along(function):
    weights = torch.arange(9).double().cos()
    return lambda t: (function(start + t * direction).flatten() * weights).sum()


def standardised(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred * (centred.square().mean(-1, keepdim=True) + 1e-5).rsqrt()


def in_forward_mode(f):
    first = lambda t: jvp(f, (t,), (one,))[1]
    return float(first(zero)), float(jvp(first, (zero,), (one,))[1])


def in_backward_mode(f):
    t = zero.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(t), t, create_graph=True)
    return float(first), float(torch.autograd.grad(first, t)[0])


wrong = {
    "layer_norm": along(lambda x: F.layer_norm(x, (3,))),
    "batch_norm": along(lambda x: F.batch_norm(x, None, None, training=True)),
    "instance_norm": along(lambda x: F.instance_norm(x[None])),
    "det": along(lambda x: torch.linalg.det(x).expand(9)),
    "slogdet": along(lambda x: torch.linalg.slogdet(x)[1].expand(9)),
    "solve": along(lambda x: torch.linalg.solve(x, x.square())),
    "Function": lambda t: Cube.apply(2 + t),
}
right = {
    "layer norm, written out": along(standardised),
    "group_norm": along(lambda x: F.group_norm(x[None], 1)),
    "inv": along(torch.linalg.inv),
}
for name, f in {**wrong, **right}.items():
    forward, backward = in_forward_mode(f), in_backward_mode(f)
    print(f"{name:25s} first {forward[0]:.4g} {backward[0]:.4g}  second {forward[1]:.4g} {backward[1]:.4g}")
    assert abs(forward[0] - backward[0]) < 1e-9 * (1 + abs(backward[0])), f"{name}: first derivative"
    error = abs(forward[1] - backward[1]) / abs(backward[1])
    assert error > 0.05 if name in wrong else error < 1e-9, f"{name}: the behaviour has changed"
PYTHON
echo "as described"
