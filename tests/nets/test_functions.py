"""Functions with derivatives of their own: called quickly, they are what PyTorch calls."""

import sys

import pytest
import torch
from torch import Tensor
from torch.autograd import Function, forward_ad, gradcheck, gradgradcheck
from torch.func import grad, jvp, vmap
from torch.testing import assert_close

from darts_gdas.nets.functions import apply


class Scaled(Function):
    """(a, x, y) -> a x y, and the signs of x without a derivative."""

    generate_vmap_rule = True
    contexts = 0

    @staticmethod
    def forward(factor: float, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return factor * x * y, x.sign()

    @staticmethod
    def setup_context(ctx, inputs, output):
        Scaled.contexts += 1
        ctx.factor, x, y = inputs
        ctx.save_for_backward(x, y)
        ctx.save_for_forward(x, y)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, gradient, _):
        x, y = ctx.saved_tensors
        asked = ctx.needs_input_grad
        assert asked[0] is False
        return (
            None,
            ctx.factor * gradient * y if asked[1] else None,
            ctx.factor * gradient * x if asked[2] else None,
        )

    @staticmethod
    def jvp(ctx, _, dx, dy):
        x, y = ctx.saved_tensors
        return ctx.factor * (dx * y + x * dy), None


def drawn(*shape: int) -> list[Tensor]:
    source = torch.Generator().manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, generator=source) for _ in range(2)]


def product(x: Tensor, y: Tensor) -> Tensor:
    return apply(Scaled, 3.0, x, y)[0]


torch_func = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")


@torch_func
def test_it_is_the_same_function_with_the_same_derivatives():
    x, y = (t.requires_grad_() for t in drawn(2, 3))
    found, signs = apply(Scaled, 3.0, x, y)
    expected, _ = Scaled.apply(3.0, x, y)
    assert_close(found, 3 * x * y, rtol=0, atol=0)
    assert found.grad_fn.name() == expected.grad_fn.name()
    assert not signs.requires_grad
    assert gradcheck(product, (x, y), check_forward_ad=True)
    assert gradgradcheck(product, (x, y))


@pytest.mark.parametrize("learns", [0, 1])
def test_it_asks_for_no_more_gradients_than_are_needed(learns: int):
    pair = drawn(2, 3)
    pair[learns].requires_grad_()
    (found,) = torch.autograd.grad(product(*pair).sum(), pair[learns])
    assert_close(found, 3 * pair[1 - learns])


def test_without_gradients_nothing_is_kept():
    x, y = (t.requires_grad_() for t in drawn(2, 3))
    before = Scaled.contexts
    with torch.no_grad():
        found = product(x, y)
    assert Scaled.contexts == before and not found.requires_grad
    product(x, y)
    assert Scaled.contexts == before + 1


@torch_func
def test_transforms_and_tangents_go_through():
    x, y = drawn(4, 3)
    each = vmap(grad(lambda a, b: product(a, b).sum()))(x, y)
    assert_close(each, 3 * y)
    value, tangent = jvp(product, (x, y), (y, x))
    assert_close((value, tangent), (3 * x * y, 3 * (y * y + x * x)))
    with forward_ad.dual_level():
        dual = product(forward_ad.make_dual(x, y), y)
        assert_close(forward_ad.unpack_dual(dual).tangent, 3 * y * y)


def test_no_signature_is_bound():
    """That would take longer than small images do."""
    x, y = (t.requires_grad_() for t in drawn(2))

    def called(function, *inputs) -> bool:
        names: set[str] = set()
        sys.setprofile(lambda frame, *_: names.add(frame.f_code.co_name))
        try:
            function(*inputs)
        finally:
            sys.setprofile(None)
        return any("bind_default_args" in name for name in names)

    assert called(Scaled.apply, 3.0, x, y)
    assert not called(apply, Scaled, 3.0, x, y)
