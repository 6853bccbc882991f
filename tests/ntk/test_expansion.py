"""Taylor expansions against polynomials, and against derivatives along a line."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from darts_gdas.nets.depthwise import Depthwise
from darts_gdas.ntk import linearize, taylor_expand
from tests.ntk.networks import Call, make
from tests.oracles import jacobian_rows

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


def moves_along_its_rows(model: nn.Module, x: Tensor) -> bool:
    """Whether f + J d is what the linearised network gives, and J its gradient."""
    parameters = [*model.parameters()]
    rows = torch.stack([torch.stack(row) for row in jacobian_rows(model, x, parameters)])
    output, linear = model(x).detach(), linearize(model)
    there = {n: (p + 0.1).detach().requires_grad_() for n, p in model.named_parameters()}
    found = linear(there, x)
    gradient = torch.autograd.grad(found.sum(), list(there.values()))
    flat = torch.cat([g.flatten() for g in gradient])
    return torch.allclose(found, output + 0.1 * rows.sum(2)) and torch.allclose(
        flat, rows.sum((0, 1))
    )


def two(**more: Any) -> dict[str, Any]:
    return {"one": nn.Linear(4, 5), "head": nn.Linear(5, 2)} | more


def test_what_backward_passes_recompute_has_a_gradient():
    def function(net: Any, x: Tensor) -> Tensor:
        return net.head(checkpoint(lambda z: net.one(z).tanh(), x, use_reentrant=False))

    model, x = Call(function, **two()).double(), torch.randn(3, 4).double()
    assert moves_along_its_rows(model, x)
    with pytest.raises(ValueError, match=r"of order 2: .* recompute; switch checkpoints off$"):
        taylor_expand(model, 2)(moved(model), x)


class Views(nn.Module):
    """Reads its matrix and its vector as views of one vector, kept as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Parameter(torch.randn(25, dtype=torch.float64) / 2)
        self.head = nn.Linear(5, 2).double()
        self.weight, self.rest = self.flat[5:].view(4, 5).t(), [self.flat[:5]]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(x, self.weight, self.rest[0]).tanh())


def test_views_of_weights_move_with_them():
    model, x = Views(), torch.randn(3, 4).double()
    assert moves_along_its_rows(model, x)
    linear, there = linearize(model), moved(model)
    before = linear(there, x)
    with torch.no_grad():
        model.flat.zero_()
    assert torch.equal(linear(there, x), before)


def closed_over(net: nn.Module, *, by_hook: bool) -> nn.Module:
    one, head = net.get_submodule("one"), net.get_submodule("head")
    if by_hook:
        net.register_forward_hook(lambda module, inputs, output: output * head.bias)
    else:
        net.function = lambda net, x: head(one(x).tanh())  # type: ignore[assignment]
    return net


def test_a_hook_may_read_what_the_output_does_not_depend_on():
    """Weights that it logs, of the network that was copied."""
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), torch.ones(5, 3)
    there = {name: p.detach() + 0.1 for name, p in model.named_parameters()}
    expected, log = linearize(model)(there, x.double()), []
    weight = model.get_parameter("0.weight")
    model.register_forward_hook(lambda m, i, y: log.append(float(weight.detach().norm())))
    assert torch.equal(linearize(model)(there, x.double()), expected) and log


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(("by_hook", "name"), [(True, "head.bias"), (False, "one.weight")])
def test_what_a_copy_does_not_reach_is_refused(by_hook: bool, name: str, trained: bool):
    """A layer that does not learn, too: its weights are among those by which one expands."""
    plain = Call(lambda net, x: net.head(net.one(x).tanh()), **two())
    model = closed_over(plain, by_hook=by_hook).requires_grad_(trained)
    with pytest.raises(ValueError, match=f"a copy of the model still uses '{name}' of the model"):
        linearize(model)(moved(model), torch.randn(3, 4))


def test_shapes_and_places_that_a_function_closes_over_do_no_harm():
    model, x = Call(lambda net, x: net.head(net.one(x).tanh()), **two()), torch.randn(3, 4)
    weight = model.get_submodule("one").weight
    model.register_forward_hook(lambda m, i, y: y.to(weight.device) * weight.shape[0])
    assert moves_along_its_rows(model.double(), x.double())


def test_what_was_computed_from_weights_before_is_refused():
    model = Call(lambda net, x: net.head(net.one(x) * net.gain[0]), **two())
    model.gain = [2 * model.get_submodule("one").bias]  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"earlier computation with weights, of shape \(5,\),"):
        linearize(model)(moved(model), torch.randn(3, 4))


def test_what_cannot_be_copied_is_one_line():
    model = Call(lambda net, x: net.head(net.one(x)), **two())
    model.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"^the model cannot be copied: .*lock"):
        linearize(model)


TRANSFORMS: dict[str, Callable[[Any, Any, Tensor], Any]] = {
    "vmap": lambda linear, p, x: vmap(lambda sample: linear(p, sample[None])[0])(x),
    "grad": lambda linear, p, x: grad(lambda q: linear(q, x).sum())(p)["head.bias"],
    "jvp": lambda linear, p, x: jvp(lambda q: linear(q, x), (p,), (p,))[1],
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_run_forward_mode_after_a_first_call(name: str):
    model, x = Call(lambda net, x: net.head(net.one(x).tanh()), **two()), torch.randn(3, 4)
    linear, there = linearize(model), moved(model)
    with pytest.raises(ValueError, match=r"the first call of an expansion .* call it once outside"):
        TRANSFORMS[name](linear, there, x)
    value, twice = linear(there, x), linear({n: 2 * p for n, p in there.items()}, x)
    three = torch.full((2,), 3.0)  # of as many samples
    expected = {"vmap": value, "grad": three, "jvp": twice - value}
    assert_close(TRANSFORMS[name](linear, there, x), expected[name])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_two_passes_are_one_line(name: str):
    model = Call(lambda net, x: net.head(torch.no_grad()(net.one)(x).tanh()), **two())
    linear, there, x = linearize(model), moved(model), torch.randn(3, 4)
    linear(there, x)
    with pytest.raises(ValueError, match=r"takes two backward passes, which torch\.func"):
        TRANSFORMS[name](linear, there, x)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, 2.0, 3.0, 4.0]], "x must be a tensor, got list"),
        (torch.ones(0, 4), r"x must hold samples .* at least one, got shape \(0, 4\)"),
        (torch.tensor(1.0), r"x must hold samples .* got shape \(\)"),
        (torch.ones(3, 5), r"fails for samples of shape \(3, 5\) in torch.float32: .*shapes"),
        (torch.ones(3, 4).double(), r"fails for samples of shape \(3, 4\) in torch.float64"),
        (torch.ones(3, 4).long(), r"fails for samples of shape \(3, 4\) in torch.int64"),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_samples_that_do_not_fit_are_one_line(x: Any, message: str, called: bool, frozen: bool):
    one = torch.no_grad() if frozen else lambda f: f
    model = Call(lambda net, x: net.head(one(net.one)(x).tanh()), **two())
    linear, there = linearize(model), moved(model)
    if called:
        linear(there, torch.ones(2, 4))
    with pytest.raises(ValueError, match=message):
        linear(there, x)


def test_an_error_of_forward_mode_has_its_type():
    def function(net: Any, x: Tensor) -> Tensor:
        y = net.one(x)
        if torch._C._functorch.peek_interpreter_stack() is not None:
            raise ZeroDivisionError("boom")
        return net.head(y)

    model = Call(function, **two())
    with pytest.raises(ValueError, match=r"expansion of order 2: ZeroDivisionError: boom$"):
        taylor_expand(model, 2)(moved(model), torch.randn(3, 4))
