"""What tells one function from another, and what does not."""

import copy
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import darts_gdas.ntk.fingerprint as module
from darts_gdas.ntk.fingerprint import Fingerprint, fingerprint
from tests.ntk.networks import Call, cancelling

HALVES = [torch.bfloat16, torch.float16]

pytestmark = pytest.mark.usefixtures("seeded")


def taken(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Fingerprint:
    """Of one layer and a function, 12 samples in blocks of 5, passes of 2."""
    generator = torch.Generator().manual_seed(0)
    layer, x = nn.Linear(4, 3), torch.randn(12, 4, generator=generator)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 4, generator=generator))
        layer.bias.zero_()
    model = Call(lambda n, x: function(n.layer(x)), layer=layer)
    return fingerprint(model.to(dtype), (x.to(dtype), None), "all", 5, 2)


def differing(a: Fingerprint, b: Fingerprint) -> list[str]:
    return a.differing(b.outputs.tolist(), b.gradients.tolist())


def odd(y: Tensor) -> Tensor:
    """A thousandth more where an output is large, as it is of few samples."""
    return torch.where(y.norm(dim=1, keepdim=True) > 5, 1.001 * y, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (F.gelu, lambda y: F.gelu(y, approximate="tanh"), "outputs"),
        (F.relu, lambda y: F.leaky_relu(y, 1e-3), "outputs"),
        (lambda y: y, odd, "outputs"),
        (lambda y: y * y, lambda y: y * y.detach(), "gradients"),
    ],
)
def test_functions_that_differ_by_more_than_rounding_differ(one, other, found: str, dtype):
    assert found in differing(taken(one, dtype), taken(other, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (F.silu, lambda y: y / (1 + (-y).exp())),
        (torch.tanh, lambda y: 1 - 2 / ((2 * y).exp() + 1)),
    ],
)
def test_rounding_makes_no_difference(one, other, dtype):
    assert not differing(taken(one, dtype), taken(other, dtype))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("scale", [1.001, 1.03, 1.08])
def test_functions_in_half_precision_are_told_apart(dtype: torch.dtype, scale: float):
    own = taken(torch.tanh, dtype)
    assert differing(own, taken(lambda y: scale * torch.tanh(y), dtype)) == ["outputs", "gradients"]


@pytest.mark.parametrize("dtype", HALVES)
def test_a_network_bound_to_half_precision_is_compared_in_it(dtype: torch.dtype):
    def bound(scale: float) -> Fingerprint:
        def function(y: Tensor) -> Tensor:
            return scale * y @ torch.ones(3, 2, dtype=dtype)  # float32 cannot be multiplied by it

        return taken(function, dtype)

    assert bound(1.0).eps == torch.finfo(dtype).eps and not differing(bound(1.0), bound(1.005))
    assert differing(bound(1.0), bound(1.08)) == ["outputs", "gradients"]


class InParts(nn.Linear):
    """A linear layer that adds up its products in another order."""

    def forward(self, input: Tensor) -> Tensor:
        (a, b), (v, w) = input.chunk(2, 1), self.weight.chunk(2, 1)
        return F.linear(b, w, self.bias) + F.linear(a, v)


@pytest.mark.parametrize("dtype", HALVES)
def test_another_order_of_sums_makes_no_difference_in_half_precision(dtype: torch.dtype):
    """As on another machine: in bfloat16 ten layers move outputs by some per cent."""
    model = nn.Sequential(*(m for _ in range(10) for m in (nn.Linear(32, 32), nn.Tanh())))
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight.mul_(4.0)
    other, x = copy.deepcopy(model), torch.randn(12, 32).to(dtype)
    for layer in other[::2]:
        layer.__class__ = InParts  # type: ignore[assignment]
    one, two = (fingerprint(m.to(dtype), (x, None), "all", 5, 2) for m in (model, other))
    assert (model(x) - other(x)).norm() > 0.02 * model(x).norm() or dtype == torch.float16
    assert not differing(one, two)


def test_recurrent_layers_and_shared_weights_are_taken_in_float32():
    rnn = nn.GRU(4, 4, batch_first=True)
    rnn.weight_hh_l0 = rnn.weight_ih_l0
    model = Call(lambda n, x: n.rnn(x)[0][:, -1], rnn=rnn).bfloat16()
    x, before = torch.randn(6, 3, 4).bfloat16(), dict(model.named_parameters())
    found = fingerprint(model, (x, None), "all", 6, 6)
    assert found.eps == torch.finfo(torch.float32).eps
    assert all(p is before[name] for name, p in model.named_parameters())
    assert rnn._flat_weights[1] is rnn.weight_ih_l0 is rnn.weight_hh_l0
    wide = fingerprint(model.float(), (x.float(), None), "all", 6, 6)
    assert not differing(found, wide)


def test_outputs_that_are_rounding_make_no_difference():
    (model, one, two), x = cancelling(), torch.randn(6, 4)
    turned = Call(lambda n, x: n.one(x.flip(0)).flip(0) - n.two(x), one=one, two=two)
    a, b = (fingerprint(net, (x, None), "all", 3, 3) for net in (model, turned))
    assert abs(a.outputs).max() < 1e-5 and not differing(a, b)


def test_gradients_without_numbers_are_refused():
    with pytest.raises(ValueError, match=r"gradients .* hold numbers that are not finite"):
        taken(lambda y: y / 0, torch.float32)


def test_outputs_without_numbers_are_the_same_as_themselves():
    def masked(y: Tensor) -> Tensor:
        return torch.cat(
            [y, torch.full_like(y[:, :1], -torch.inf), y[:, :1].detach() * torch.nan], 1
        )

    one = taken(masked, torch.float32)
    assert not differing(one, taken(masked, torch.float32))
    assert differing(one, taken(lambda y: masked(y).nan_to_num(), torch.float32)) == ["outputs"]


@pytest.mark.parametrize("there", [[], [[1.0], [2.0, 3.0]], None, [1.0], "text"])
def test_numbers_of_another_form_differ(there):
    own = taken(torch.tanh, torch.float32)
    assert own.differing(there, own.gradients.tolist()) == ["outputs"]


def test_memory_is_that_of_a_block(monkeypatch: pytest.MonkeyPatch):
    """Outputs of a block are gone when those of the next are there: three, and gradients."""
    plain, seen = module._projected, []

    def watched(numbers: Tensor) -> list[float]:
        assert all(earlier() is None for earlier in seen)
        seen.append(weakref.ref(numbers))
        return plain(numbers)

    monkeypatch.setattr(module, "_projected", watched)
    taken(torch.tanh, torch.float32)
    assert len(seen) == 3 + 1
