"""Networks that a faster way would get wrong without a word, against gradients sample by sample."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.testing import assert_close

from darts_gdas.ntk import empirical_ntk, ntk_vector_product
from darts_gdas.ntk.agreement import is_close, probe
from darts_gdas.ntk.calls import Unsupported
from darts_gdas.ntk.generic import LoopRows
from tests.ntk.networks import own_parameter
from tests.ntk.test_kernel import by_definition, close, double
from tests.ntk.test_zoo import Computes

pytestmark = pytest.mark.usefixtures("seeded")


class Own(nn.Module):
    """A parameter, and what is computed of it and a batch."""

    def __init__(self, weight: Tensor, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.function = nn.Parameter(weight), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


class Clipped(nn.Linear):
    """A linear layer for small samples."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).clamp(-2, 2)


class Adapted(nn.Conv2d):
    """A convolution beside one of low rank, whose second factor begins at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1, bias=False)
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + self.up(self.down(input))


class Asked(nn.Linear):
    """A linear layer that takes a second argument, and returns a pair."""

    def forward(self, input: Tensor, scale: float = 1.0) -> Any:
        return scale * super().forward(input), scale


def asked() -> nn.Module:
    return Computes(lambda m, x: m.inner(x, scale=2.0)[0], inner=Asked(4, 3))


def pooled() -> nn.Module:
    model = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2))
    model[0].forward = lambda input: 3 * F.avg_pool2d(input, 2)
    return model


def by_length() -> nn.Module:
    """Sorts its samples by their number of words, and sorts what it finds back."""

    def function(m: Any, tokens: Tensor) -> Tensor:
        order = (tokens != 0).sum(1).argsort(descending=True, stable=True)
        return m.head(m.words(tokens[order]).sum(1).tanh())[order.argsort()]

    return Computes(function, words=nn.Embedding(6, 4), head=nn.Linear(4, 2))


def words_first() -> nn.Module:
    """Its output is that of the first word."""
    return Computes(
        lambda m, x: m.head(m.inner(x.transpose(0, 1)).tanh()[0]),
        inner=nn.Linear(4, 5),
        head=nn.Linear(5, 3),
    )


def observed() -> nn.Module:
    model = own_parameter()
    model[2].register_full_backward_hook(lambda *_: None)
    return model


def one_large() -> Tensor:
    x = 0.3 * double(5, 4)
    x[2] *= 30
    return x


def lengths(samples: int, *short: int) -> Tensor:
    tokens = torch.randint(1, 6, (samples, 3))
    tokens[[*short], 1:] = 0
    return tokens


WRONG: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], set[str]]] = {
    "distances": (
        lambda: Own(double(3, 4), lambda x, w: (-torch.cdist(x, w)).exp()),
        lambda: double(6, 4),
        {"structured", "jacobian"},
    ),
    "determinants": (
        lambda: Own(double(3, 3), lambda x, w: torch.linalg.det(x + w)[:, None].expand(-1, 2)),
        lambda: double(3, 3, 3),
        {"structured", "jacobian"},
    ),
    "equations": (
        lambda: Own(double(3, 3), lambda x, w: torch.linalg.solve(x + w, w)),
        lambda: double(3, 3, 3),
        {"structured", "jacobian"},
    ),
    "clipped": (lambda: nn.Sequential(Clipped(4, 6), nn.Linear(6, 3)), one_large, {"structured"}),
    "adapted": (
        lambda: nn.Sequential(Adapted(8), nn.Flatten(), nn.Linear(200, 2)),
        lambda: double(4, 8, 5, 5),
        {"structured"},
    ),
    "sorted": (by_length, lambda: lengths(5, 1, 4), {"structured"}),
    "sorted, not in what is tried": (by_length, lambda: lengths(20, 17), {"structured"}),
    "one, words first": (words_first, lambda: double(1, 1, 4), {"structured"}),
    "two, words first": (words_first, lambda: double(2, 2, 4), {"structured"}),
    "four, words first": (words_first, lambda: double(4, 4, 4), {"structured"}),
    "pooled in its own way": (pooled, lambda: double(3, 2, 4, 4), set()),
    "asked": (asked, lambda: double(3, 4), {"structured"}),
    "observed": (observed, lambda: double(3, 5), {"structured", "jacobian"}),
}
"""A network, its samples, and which methods refuse it."""


@pytest.mark.parametrize("name", WRONG)
def test_what_a_method_would_get_wrong_it_refuses_in_a_line(name: str):
    make, samples, refusing = WRONG[name]
    model, x = make().double(), samples()
    expected = by_definition(Flat(model), x)
    for method in ("auto", "structured", "jacobian", "loop"):
        if method in refusing:
            with pytest.raises(Unsupported, match=rf'^method="{method}" cannot take .*"auto"$'):
                empirical_ntk(model, x, kind="full", method=method)
        else:
            close(empirical_ntk(model, x, kind="full", method=method), expected)
    close(empirical_ntk(model, x[:1], x, chunk_size=2), expected.sum((2, 3))[:1])
    assert name != "pooled in its own way" or "forward" in vars(model[0])


class Flat(nn.Module):
    """Outputs side by side."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).flatten(1)


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 50])
def test_what_is_tried_is_in_no_order(samples: int):
    """Neither upwards nor downwards, wherever there are two different samples."""
    order = probe([torch.arange(samples)])
    assert len(order) == 4 and {0, samples - 1} <= set(order.tolist())
    assert samples == 1 or any(order.diff() > 0)
    assert samples == 1 or any(order.diff() < 0)
    assert samples < 3 or any((order > 0) & (order < samples - 1))


def test_both_sides_are_tried():
    assert torch.equal(probe([torch.zeros(3), torch.ones(2)]), torch.tensor([0.0] * 4 + [1.0] * 4))


@pytest.mark.parametrize("with_gradients", [True, False])
def test_weights_that_were_made_before_do_not_count(with_gradients: bool):
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3)), nn.Tanh()).double()
    x = double(3, 4)
    expected = by_definition(model, x)
    with parametrize.cached():
        with torch.set_grad_enabled(with_gradients):
            model(x)
        for method in ("auto", "jacobian", "vector_product", "loop"):
            close(empirical_ntk(model, x, kind="full", method=method), expected)


@pytest.mark.parametrize("method", ["auto", "structured", "jacobian", "vector_product", "loop"])
def test_a_kernel_of_zeros_is_refused(method: str):
    model = Computes(lambda m, x: torch.no_grad()(m.inner)(x) + m.outer(x), **layers()).double()
    x = double(3, 4)
    with pytest.raises(ValueError, match=r"no selected parameter, neither 'inner\.weight' nor"):
        empirical_ntk(model, x, method=method, params=lambda name, _: "inner" in name)
    close(empirical_ntk(model, x, kind="full", method=method), by_definition(model, x))


def layers() -> dict[str, nn.Module]:
    return {"inner": nn.Linear(4, 3), "outer": nn.Linear(4, 3)}


def test_no_other_method_is_tried_where_the_memory_is_full(monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("as planned")

    tried: list[str] = []
    monkeypatch.setattr("darts_gdas.ntk.generic.JacobianRows.fill", full)
    monkeypatch.setattr(LoopRows, "fill", lambda *_: tried.append("loop"))
    with pytest.raises(torch.OutOfMemoryError, match="as planned"):
        empirical_ntk(own_parameter().double(), double(3, 5))
    assert not tried


def test_products_make_parametrised_weights_anew_too():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3)), nn.Tanh()).double()
    x, vector = double(5, 4), double(5, 3)
    expected = ntk_vector_product(model, x, vector)
    with parametrize.cached():
        model(x)
        found = ntk_vector_product(model, x, vector)
    close(found, expected)


class TokensToImage(nn.Module):
    """Tokens turned into an image for a batch norm, as behind attention."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(5, 5), nn.BatchNorm2d(5)
        self.table = [nn.Parameter(torch.rand(5) + 0.5)]
        self.scale = self.table[0]
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        images = self.layer(x).mT.reshape(len(x), 5, 2, 3)
        return self.norm(images).mean((2, 3)) * self.table[0]


def in_a_batch(model: nn.Module, x: Tensor) -> Tensor:
    """The full kernel by gradients of the whole batch's outputs."""
    weights, outputs = [*model.parameters()], model(x)
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(y, weights, retain_graph=True)])
        for y in outputs.flatten()
    ]
    whole = torch.stack(rows) @ torch.stack(rows).T
    return whole.unflatten(0, outputs.shape).unflatten(2, outputs.shape).transpose(1, 2)


def of_tokens() -> tuple[nn.Module, Tensor]:
    """Batch norm of a single image that was made of tokens has another gradient."""
    return TokensToImage().double().eval(), double(5, 6, 5)


def of_instances() -> tuple[nn.Module, Tensor]:
    """Instance norm of a single image in channels_last has another one, before a convolution."""
    layers = nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Conv2d(4, 2, 3)
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    layout = torch.channels_last
    return model.to(memory_format=layout), double(5, 3, 7, 6).to(memory_format=layout)


ALONE = pytest.mark.parametrize("network", [of_tokens, of_instances])


@ALONE
@pytest.mark.parametrize("kind", ["sum", "full"])
@pytest.mark.parametrize("method", ["auto", "loop", "vector_product"])
def test_a_batch_of_one_has_the_gradients_of_a_larger_one(
    network: Callable[[], tuple[nn.Module, Tensor]], method: str, kind: str
):
    model, x = network()
    expected = in_a_batch(model, x)
    right = expected if kind == "full" else expected.sum((2, 3))
    close(empirical_ntk(model, x, kind=kind, method=method, chunk_size=4), right)
    close(empirical_ntk(model, x[:1], kind=kind, method=method), right[:1, :1])


@ALONE
@pytest.mark.parametrize("chunk_size", [1, 4])
def test_products_of_a_last_sample_alone_are_right(
    network: Callable[[], tuple[nn.Module, Tensor]], chunk_size: int
):
    """Those of tokens by two backward passes, as forward mode does not see weights in lists."""
    model, x = network()
    vector = double(*model(x).shape)
    expected = torch.einsum("nmab,mb->na", in_a_batch(model, x), vector)
    close(ntk_vector_product(model, x, vector, chunk_size=chunk_size), expected)
    close(
        ntk_vector_product(model, x[:1], vector, x, chunk_size=chunk_size),
        expected[:1],
    )


@pytest.mark.parametrize("method", ["auto", "structured"])
def test_structured_rows_of_one_sample_are_those_of_more(method: str):
    """The batch norm's own weights do not count, so it runs by the library."""
    model = Computes(
        lambda m, x: m.head(m.own(m.layer(x).mT.reshape(len(x), 5, 2, 3)).mean((2, 3))),
        layer=nn.Linear(5, 5),
        own=nn.BatchNorm2d(5),
        head=nn.Linear(5, 2),
    ).double()
    nn.init.normal_(model.own.weight)
    model.own.requires_grad_(False)
    parametrize.register_parametrization(model.own, "weight", nn.Identity())
    model.eval()
    x = double(5, 6, 5)
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(y, [*weights.values()])])
        for y in (model(x)[i].sum() for i in range(5))
    ]
    expected = torch.stack(rows) @ torch.stack(rows).T
    close(empirical_ntk(model, x, method=method, chunk_size=4), expected)
    close(empirical_ntk(model, x[:1], method=method), expected[:1, :1])


class Repeated(nn.Module):
    """A weight in a list, used twice: formulas and transforms see one use, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.held = [self.layer.weight]

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * (1 + F.linear(x, self.held[0]).tanh())


@pytest.mark.parametrize("kind", ["sum", "full"])
def test_trust_takes_no_way_that_was_refused(kind: str):
    model, x = Repeated().double(), double(5, 4)
    expected = empirical_ntk(model, x, kind=kind, method="loop")
    close(empirical_ntk(model, x, kind=kind), expected)
    close(empirical_ntk(model, x, kind=kind, trusted=True), expected)
    close(empirical_ntk(model, x, kind=kind, method="vector_product", trusted=True), expected)


@pytest.mark.parametrize("kind", ["sum", "full"])
def test_layers_may_be_of_several_types(kind: str):
    """A body in bfloat16, a head in float32; rows differ by roundings of the body."""
    model = Computes(
        lambda m, x: m.head(m.body(x.bfloat16()).tanh().float()),
        body=nn.Linear(4, 6).bfloat16(),
        head=nn.Linear(6, 3),
    )
    x = torch.randn(5, 4)
    expected = empirical_ntk(model, x, kind=kind, method="loop")
    found = empirical_ntk(model, x, kind=kind, method="structured")
    assert_close(found, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


def test_numbers_are_close_where_nan_meets_nan():
    x = torch.tensor([1.0, torch.nan, -torch.inf, 4.0])
    assert is_close(x + 0.03, x, 0.01) and not is_close(x + 0.05, x, 0.01)
    assert not is_close(x.nan_to_num(), x, 0.01) and not is_close(x, x.nan_to_num(), 0.01)
    assert not is_close(x.abs(), x, 1.0) and not is_close(x[:3], x, 1.0)
    assert is_close(x[:0], x[:0], 0.0) and is_close(x[:1] + 1, x[:1], 0.0, 1.0)
