"""Networks on which forward mode is wrong or fails, against gradients sample by sample."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.testing import assert_close

from darts_gdas.ntk import (
    empirical_ntk,
    extreme_eigenvalues,
    linearize,
    ntk_vector_product,
    projected_ntk,
    taylor_expand,
)
from darts_gdas.ntk.agreement import is_transposed
from darts_gdas.ntk.calls import Unsupported
from darts_gdas.ntk.directions import by_forward_mode, by_two_passes, pushed
from darts_gdas.ntk.entry import tried
from tests.ntk.networks import Call, make
from tests.oracles import jacobian_rows

pytestmark = pytest.mark.usefixtures("seeded")


def layers(**more: nn.Module) -> dict[str, nn.Module]:
    return {"one": nn.Linear(4, 4), "head": nn.Linear(4, 2), **more}


@torch.no_grad()
def without(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x)


class Rounded(torch.autograd.Function):
    """A straight-through estimator, as one writes it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


@torch.library.custom_op("darts_gdas_tests::cubed", mutates_args=())
def cubed(x: Tensor) -> Tensor:
    """An operator of the dispatcher, which forward mode takes for a constant."""
    return x**3


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


cubed.register_autograd(lambda ctx, g: 3 * ctx.saved_tensors[0] ** 2 * g, setup_context=_save)


class Listed(nn.Module):
    """Reads a weight of its layer from a list."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.tied = [self.one.weight]

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.one(x).tanh() @ self.tied[0]).tanh())


def product(y: Tensor) -> Tensor:
    """Of the first two numbers, where the first stands, of each sample."""
    places = torch.zeros(len(y), 2, dtype=torch.long)
    return y.scatter_reduce(1, places, y[:, :2], "prod")


def covariance(y: Tensor) -> Tensor:
    """Of a lower triangle with three numbers of each sample, a number of its inverse's square."""
    low = torch.stack([y[:, :2], y[:, 2:]], 1).tril() + 2 * torch.eye(2).to(y)
    return torch.cholesky_inverse(low).flatten(1)


def mixed(net: Any, x: Tensor) -> Tensor:
    with torch.set_grad_enabled(False):
        y = net.one(x).tanh()
    return net.head(y + net.one(x).tanh())


WRONG: dict[str, Callable[[], nn.Module]] = {
    "frozen": lambda: Call(lambda net, x: net.head(without(net.one, x).tanh()), **layers()),
    "frozen in one place": lambda: Call(mixed, **layers()),
    "a weight in a list": Listed,
    "straight through": lambda: Call(
        lambda net, x: net.head(Rounded.apply(3 * net.one(x)).tanh()), **layers()
    ),
    "an operator": lambda: Call(lambda net, x: net.head(cubed(net.one(x).tanh())), **layers()),
    "products": lambda: Call(lambda net, x: net.head(product(net.one(x))).tanh(), **layers()),
    "covariances": lambda: Call(lambda net, x: net.head(covariance(net.one(x))), **layers()),
}


def jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """[samples, outputs, parameters]."""
    rows = jacobian_rows(model, x, [*model.parameters()])
    return torch.stack([torch.stack(row) for row in rows])


@pytest.mark.parametrize("name", WRONG)
def test_what_forward_mode_gets_wrong_two_passes_get_right(name: str):
    model, x = WRONG[name]().double(), torch.randn(5, 4).double()
    with tried(model, x, None) as found:
        assert pushed(model, found.parameters, [x]).push is by_two_passes
    rows = jacobian(model, x)
    kernel = torch.einsum("nap,mbp->nmab", rows, rows)
    v = torch.randn(5, 2).double()
    expected = torch.einsum("nmab,mb->na", kernel, v)
    assert_close(ntk_vector_product(model, x, v, chunk_size=2), expected)
    assert_close(empirical_ntk(model, x, kind="full", method="vector_product"), kernel)
    whole = kernel.permute(0, 2, 1, 3).reshape(10, 10)
    largest = torch.tensor(extreme_eigenvalues(model, x, tolerance=1e-10))
    assert_close(largest, torch.linalg.eigvalsh(whole)[-1:])


@pytest.mark.parametrize("name", WRONG)
def test_a_linearised_network_moves_along_its_rows(name: str):
    """And its gradient in the parameters is those rows, too."""
    model, x = WRONG[name]().double(), torch.randn(5, 4).double()
    rows, linear = jacobian(model, x), linearize(model)
    change = {n: 0.1 * torch.randn_like(p) for n, p in model.named_parameters()}
    there = {n: (p + change[n]).detach().requires_grad_() for n, p in model.named_parameters()}
    flat = torch.cat([c.flatten() for c in change.values()])
    found = linear(there, x)
    assert_close(found, (model(x) + rows @ flat).detach())
    cotangent = torch.randn(5, 2).double()
    gradients = torch.autograd.grad(
        found, list(there.values()), cotangent, allow_unused=True, materialize_grads=True
    )
    expected = torch.einsum("na,nap->p", cotangent, rows)
    assert_close(torch.cat([g.flatten() for g in gradients]), expected)
    with pytest.raises(ValueError, match="no Taylor expansion of order 2"):
        taylor_expand(model, 2)(there, x)


IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "clamped": lambda w: w.clamp_(-0.1, 0.1),
    "normalised": lambda w: w.div_(w.norm(dim=1, keepdim=True)),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_networks_that_write_into_their_weights_move_along_their_rows(name: str):
    """Forward mode writes into tangents, too, so one that is looked at must be a copy."""

    def function(net: Any, x: Tensor) -> Tensor:
        without(IN_PLACE[name], net.one.weight)
        return net.head(net.one(x).tanh())

    model, x = Call(function, **layers()).double(), torch.randn(5, 4).double()
    output, rows = model(x).detach(), jacobian(model, x)
    there = {n: p.detach() + 0.1 for n, p in model.named_parameters()}
    assert_close(linearize(model)(there, x), output + 0.1 * rows.sum(2))


def test_random_directions_are_unbiased_about_frozen_features():
    model, x = WRONG["frozen"]().double(), torch.randn(3, 4).double()
    rows = jacobian(model, x)
    exact = torch.einsum("nap,map->nm", rows, rows)
    found = projected_ntk(model, x, kind="trace", projections=60)
    assert ((found.mean - exact).abs() < 4 * found.standard_error).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["mlp", "resnet", "tied"])
def test_forward_mode_is_taken_where_it_is_right(name: str, dtype: torch.dtype):
    model, x1, x2 = make(name)
    model, sides = model.to(dtype), [x1.to(dtype), x2.to(dtype)]
    with tried(model, *sides) as found:
        assert pushed(model, found.parameters, sides).push is by_forward_mode


def test_the_look_at_forward_mode_takes_two_passes_of_four_samples():
    model, seen = nn.Sequential(nn.Linear(4, 3), nn.Tanh()), []
    x = torch.randn(50, 4)
    with tried(model, x, None) as found:
        model.register_forward_hook(lambda m, inputs, y: seen.append(len(y)))
        pushed(model, found.parameters, [x])
    assert seen == [4, 4]


@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_coo])
def test_transposes_are_told_apart_to_half_of_the_digits(layout: torch.layout):
    """Of 150 000 numbers, which are more than one part."""
    gradient, direction, u = (torch.randn(*s).double() for s in ((500, 300), (500, 300), (2, 3)))
    products = gradient * direction
    share = 2**-26 * products.norm()
    for off, is_same in ((0.0, True), (0.9, True), (1.1, False), (-1.1, False)):
        moved = torch.zeros(2, 3).double()
        moved[1, 2] = (products.sum() + off * share) / u[1, 2]
        sides = [direction, u], [gradient.to_sparse(), torch.zeros(2, 3).double()]
        if layout == torch.strided:
            sides = [direction], [gradient]
        assert is_transposed(moved, u, *sides) == is_same


class Last(nn.Module):
    """The last output of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def test_an_lstm_has_products_in_single_precision():
    """And no warning that they are slow; the oracle is the same network in double precision."""
    model, x, v = Last(), torch.randn(3, 5, 3), torch.randn(3, 2)
    there = {n: p.detach() + 0.1 for n, p in model.named_parameters()}
    linear, estimated = linearize(model)(there, x), projected_ntk(model, x, projections=20)
    found, kernel = ntk_vector_product(model, x, v), empirical_ntk(model, x, kind="full")
    model, x, v = model.double(), x.double(), v.double()
    rows = jacobian(model, x)
    exact = torch.einsum("nap,mbp->nmab", rows, rows)
    assert_close(kernel.double(), exact, rtol=1e-4, atol=1e-5)
    product = torch.einsum("nmab,mb->na", exact, v)
    assert_close(found.double(), product, rtol=1e-4, atol=1e-5)
    moved = model(x) + 0.1 * rows.sum(2)
    assert_close(linear.double(), moved.detach(), rtol=1e-4, atol=1e-5)
    assert ((estimated.mean - exact).abs() < 5 * estimated.standard_error).all()


@pytest.mark.parametrize("method", ["auto", "vector_product"])
def test_kernels_that_are_not_finite_are_refused(method: str):
    """The root of zero times an output has no slope, and the output is finite."""
    model, x = (
        Call(lambda net, x: net.head(x) + (0 * net.head(x)).sqrt(), **layers()),
        torch.ones(3, 4),
    )
    for call in (
        lambda: empirical_ntk(model, x, method=method),
        lambda: ntk_vector_product(model, x, torch.ones(3, 2)),
        lambda: extreme_eigenvalues(model, x),
    ):
        with pytest.raises(
            ValueError, match="the kernel holds numbers that are not finite, though"
        ):
            call()
    assert empirical_ntk(model, x, trusted=True).isnan().all()


def test_an_expansion_may_be_transformed_and_be_made_in_inference_mode():
    model, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double(), torch.randn(3, 4).double()
    there = {n: p.detach() + 0.1 for n, p in model.named_parameters()}
    linear = linearize(model)
    expected = linear(there, x)
    assert_close(vmap(lambda sample: linear(there, sample[None])[0])(x), expected)
    with torch.inference_mode():
        assert_close(linearize(model)(there, x), expected)
        inside = {name: value + 0 for name, value in there.items()}  # made without gradients
        assert_close(linear(inside, x + 0), expected)


def test_an_expansion_takes_networks_of_one_batch_size_and_random_ones():
    """Dropout makes both terms of one mask: without a bias the outputs are twice as large."""
    places = nn.Embedding(5, 2)
    fixed = Call(
        lambda net, x: net.head(x) + net.places.weight, places=places, head=nn.Linear(4, 2)
    )
    x = torch.randn(5, 4)
    assert_close(linearize(fixed)(dict(fixed.named_parameters()), x), fixed(x))
    dropping = nn.Sequential(nn.Linear(4, 300, bias=False), nn.Dropout(0.5))
    linear, twice = linearize(dropping), {"0.weight": 2 * dropping[0].weight.detach()}
    found = linear(twice, x)
    both = (found == 0) | torch.isclose(found, 4 * dropping[0](x), rtol=1e-4, atol=1e-5)
    assert both.all() and 0.4 < (found == 0).float().mean() < 0.6


def test_an_expansion_of_nothing_is_refused():
    model = Call(lambda net, x: without(net.head, x), **layers())
    with pytest.raises(ValueError, match="must return a tensor that depends on its parameters"):
        linearize(model)(dict(model.named_parameters()), torch.ones(3, 4))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: [*p.values()], "parameters must be tensors by name, got list"),
        (
            lambda p: p | {"bias": torch.ones(3)},
            r"'bias' must be \(2,\) in torch\.float32 .* \(3,\)",
        ),
        (lambda p: p | {"bias": p["bias"].double()}, r"'bias' must .* in torch\.float64"),
        (lambda p: p | {"bias": 0.5}, "parameter 'bias' must be a tensor, got float"),
    ],
)
def test_parameters_of_another_form_are_one_line(change: Callable[[Any], Any], message: str):
    model = nn.Linear(4, 2)
    with pytest.raises(ValueError, match=message):
        linearize(model)(change(dict(model.named_parameters())), torch.ones(3, 4))


def test_what_neither_way_can_do_is_one_line():
    model = Call(lambda net, x: net.bag(x), bag=nn.EmbeddingBag(6, 2))
    tokens = torch.tensor([[1, 2], [3, 4], [5, 0]])
    with pytest.raises(
        Unsupported, match=r"^products with the kernel cannot .* empirical_ntk can: "
    ):
        ntk_vector_product(model, tokens, torch.ones(3, 2))


def padded() -> nn.Module:
    """Token 0 is padding; its vector has no gradient, but is not zero."""
    model = nn.Sequential(nn.Embedding(9, 3, padding_idx=0), nn.Flatten(), nn.Linear(12, 2))
    nn.init.normal_(model.get_parameter("0.weight"))
    return model.double()


def test_padding_in_samples_that_are_not_tried_has_no_derivative():
    """Nine samples, of which the fourth alone holds a padding token."""
    model, x, v = padded(), torch.randint(1, 9, (9, 4)), torch.randn(9, 2).double()
    x[3, 1] = 0
    rows = jacobian(model, x)
    kernel = torch.einsum("nap,mbp->nmab", rows, rows)
    assert_close(ntk_vector_product(model, x, v), torch.einsum("nmab,mb->na", kernel, v))
    change = {n: 0.1 * torch.randn_like(p) for n, p in model.named_parameters()}
    there = {n: p.detach() + change[n] for n, p in model.named_parameters()}
    linear, flat = linearize(model), torch.cat([c.flatten() for c in change.values()])
    linear(there, x[:2])  # without a padding token
    assert_close(linear(there, x), (model(x) + rows @ flat).detach())


def test_an_expansion_with_padding_ends_at_order_1():
    model, x = padded(), torch.randint(9, (3, 4))
    with pytest.raises(ValueError, match=r"no Taylor expansion of order 2: .* a padding_idx"):
        taylor_expand(model, 2)({n: p.detach() for n, p in model.named_parameters()}, x)
