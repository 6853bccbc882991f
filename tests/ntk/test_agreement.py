"""Networks that a faster way would get wrong without a word, against gradients sample by sample."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from darts_gdas.ntk import empirical_ntk, ntk_vector_product
from darts_gdas.ntk.agreement import probe
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
