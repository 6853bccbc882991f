"""Taylor expansions against polynomials, and against derivatives along a line."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.testing import assert_close

from darts_gdas.ntk import linearize, taylor_expand
from tests.ntk.networks import make

pytestmark = pytest.mark.usefixtures("seeded")


def moved(model: nn.Module, size: float = 0.3) -> dict[str, Tensor]:
    return {name: (p + size * torch.randn_like(p)).detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_network_of_linear_layers_is_a_polynomial_of_its_depth(depth: int):
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(depth))).double()
    there, x = moved(model), torch.randn(4, 3).double()
    exact = functional_call(model, there, (x,))
    assert_close(taylor_expand(model, depth)(there, x), exact, rtol=1e-12, atol=1e-12)
    assert_close(taylor_expand(model, depth + 1)(there, x), exact, rtol=1e-12, atol=1e-12)
    if depth > 1:
        assert (taylor_expand(model, depth - 1)(there, x) - exact).norm() > 1e-3


@pytest.mark.parametrize("order", [1, 2, 3])
def test_what_is_left_shrinks_with_the_next_power(order: int):
    """Half the step leaves 2^-(order + 1) of the error, within a quarter of an order."""
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x, origin, end = torch.randn(4, 3).double(), dict(model.named_parameters()), moved(model)
    errors = []
    for share in (0.1, 0.05):
        there = {n: (p + share * (end[n] - p)).detach() for n, p in origin.items()}
        errors.append(
            (taylor_expand(model, order)(there, x) - functional_call(model, there, (x,))).norm()
        )
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.25)


def test_the_first_order_is_the_linearised_model():
    model, x, _ = make("cnn")
    there = moved(model, 0.1)
    assert torch.equal(taylor_expand(model, 1)(there, x), linearize(model)(there, x))


def test_it_is_differentiable_in_the_parameters():
    """The gradient of the expansion of a polynomial is that of the polynomial."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)).double()
    there = {name: p.requires_grad_() for name, p in moved(model).items()}
    x = torch.randn(2, 3).double()
    gradients = [
        torch.autograd.grad(f.square().sum(), list(there.values()))
        for f in (taylor_expand(model, 2)(there, x), functional_call(model, there, (x,)))
    ]
    for found, expected in zip(*gradients, strict=True):
        assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("order", [0, -1, 1.5, True])
def test_orders_below_one_are_refused(order: Any):
    with pytest.raises(
        ValueError, match=f"order must be a whole number and at least 1, got {order}"
    ):
        taylor_expand(nn.Linear(2, 2), order)
