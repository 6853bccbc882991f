"""Taylor expansions against polynomials, and against derivatives along a line."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.testing import assert_close

from darts_gdas.nets.depthwise import Depthwise
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


SMOOTH: dict[str, Callable[[], nn.Module]] = {
    "activation": nn.Tanh,
    "layer norm": lambda: nn.LayerNorm(5),
    "layer norm without weights": lambda: nn.LayerNorm((1, 5), elementwise_affine=False),
    "batch norm": lambda: nn.BatchNorm1d(1),
    "batch norm of vectors": lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(5)),
    "fixed batch norm": lambda: nn.BatchNorm1d(1).eval(),
    "instance norm": lambda: nn.InstanceNorm1d(1, affine=True),
    "fixed instance norm": lambda: nn.InstanceNorm1d(1, track_running_stats=True).eval(),
    "depthwise": lambda: nn.Sequential(
        nn.Unflatten(2, (5, 1)), Depthwise(1, 5), nn.Flatten(2), nn.Tanh()
    ),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_what_is_left_shrinks_with_the_next_power(order: int, name: str):
    """Half the step leaves 2^-(order + 1) of the error, within a quarter of an order."""
    model = nn.Sequential(nn.Linear(3, 5), SMOOTH[name](), nn.Linear(5, 2), nn.Tanh()).double()
    x, origin, end = torch.randn(4, 1, 3).double(), dict(model.named_parameters()), moved(model)
    errors = []
    for share in (0.02, 0.01):
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


class Square(torch.autograd.Function):
    """x^2, with derivatives of its own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_forward(*inputs)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradients[0]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * ctx.saved_tensors[0] * tangent


class Of(nn.Module):
    """A function of what a linear layer makes of a batch."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(3, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.linalg.det, "'det'"),
        (Tensor.logdet, "'logdet'"),
        (lambda z: torch.linalg.solve(z, z + 1), "'solve'"),
        (lambda z: torch.layer_norm(z, (3,)), "'layer_norm'"),
        (Square.apply, "'Square'"),
        (lambda z: F.glu(z[..., :2]), r"order 2: .*glu_jvp"),
    ],
)
def test_what_has_no_second_derivative_in_forward_mode_is_named(function: Any, name: str):
    model, x = Of(function).double(), torch.randn(2, 3, 3).double()
    with pytest.raises(ValueError, match=name):
        taylor_expand(model, 2)(moved(model), x)


def test_what_has_no_derivative_in_forward_mode_is_named():
    model = Of(lambda z: torch.cdist(z, z + 1)).double()
    with pytest.raises(ValueError, match=r"no Taylor expansion of order 2: .*_cdist_forward"):
        taylor_expand(model, 2)(moved(model), torch.randn(2, 3, 3).double())


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("order", [0, -1, 1.5, True])
def test_orders_below_one_are_refused(order: Any):
    with pytest.raises(
        ValueError, match=f"order must be a whole number and at least 1, got {order}"
    ):
        taylor_expand(nn.Linear(2, 2), order)
