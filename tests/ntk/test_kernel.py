"""Every kind by every method is the sum of products; what cannot be right is refused."""

import contextlib
import itertools
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.testing import assert_close

from darts_gdas.ntk import empirical_ntk, structured, ways
from darts_gdas.ntk.gram import Gram, Kind
from tests.ntk.networks import NETWORKS, Affine, make, own_parameter, settled
from tests.oracles import (
    jacobian_rows,
    kernel_of_kind,
    tangent_kernel,
)

KINDS = ("sum", "trace", "diagonal", "full")
METHODS = ("auto", "loop", "jacobian", "vector_product", "structured")


pytestmark = pytest.mark.usefixtures("seeded")


def close(actual: Tensor, expected: Tensor) -> None:
    """To 1e-10 of the largest number: sums in float64, in another order."""
    assert_close(actual, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


def by_definition(
    model: nn.Module, x1: Tensor, x2: Tensor | None = None, params: str | None = None
) -> Tensor:
    """The full kernel as the oracle computes it."""
    chosen = [p for name, p in model.named_parameters() if params is None or params in name]
    rows = jacobian_rows(model, x1, chosen)
    return tangent_kernel(rows, rows if x2 is None else jacobian_rows(model, x2, chosen))


@cache
def expected_of(name: str, rectangular: bool) -> Tensor:
    model, x1, x2 = make(name)
    return by_definition(model, x1, x2 if rectangular else None)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_rows_of_all_outputs_at_once_are_those_of_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
):
    model, x, _ = make("resnet")
    at_once = empirical_ntk(model, x, kind="full", method="structured")
    monkeypatch.setattr(structured, "_FEW_PIXELS", 0)
    close(empirical_ntk(model, x, kind="full", method="structured"), at_once)


def test_samples_that_are_large_are_not_repeated_for_every_output(monkeypatch: pytest.MonkeyPatch):
    """Nine copies: three samples, three outputs; five numbers enter the network, 18 its layers."""
    model, x, _ = make("mlp")
    expected, sizes = expected_of("mlp", False), []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    numbers = 5 + (5 + 7 + 6)
    for room, largest in ((3 * 3 * numbers * 8, 9), (3 * 3 * numbers * 8 - 1, 4)):
        monkeypatch.setattr(structured, "_ONE_PASS_BYTES", room)
        sizes.clear()
        close(empirical_ntk(model, x, kind="full", method="structured"), expected)
        assert max(sizes) == largest  # four are tried


def test_a_trusted_network_has_the_same_kernel():
    model, x, _ = make("darts")
    expected = empirical_ntk(model, x, kind="full", batch_norm="frozen")
    found = empirical_ntk(model, x, kind="full", batch_norm="frozen", trusted=True)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("samples", [1, 70, 150])
def test_a_symmetric_product_is_made_of_blocks(samples: int):
    rows = double(samples, 1, 9)
    gram = Gram(Kind.sum, (samples, samples), 1, dtype=torch.float64, device=torch.device("cpu"))
    gram.add_rows(rows, rows)
    close(gram.result(), rows[:, 0] @ rows[:, 0].T)
    assert torch.equal(gram.result(), gram.result().T)


# Every kind, method and network


CELLS = ("resnet", "darts", "pc_darts, odd sizes")


def _is_slow(network: str, kind: str, method: str, rectangular: bool) -> bool:
    """What takes long on networks of blocks and cells, and is like something tried at once."""
    if network in ("mlp", "cnn"):
        return False
    if rectangular or kind == "diagonal":
        return True
    return method not in (("structured",) if network in CELLS else ("structured", "loop"))


@pytest.mark.parametrize(
    ("network", "kind", "method", "rectangular"),
    [
        pytest.param(*given, marks=[pytest.mark.slow] if _is_slow(*given) else [])
        for given in itertools.product(NETWORKS, KINDS, METHODS, [False, True])
    ],
)
def test_it_is_the_sum_of_products(network: str, kind: str, method: str, rectangular: bool):
    model, x1, x2 = make(network)
    found = empirical_ntk(model, x1, x2 if rectangular else None, kind=kind, method=method)
    close(found, kernel_of_kind(expected_of(network, rectangular), kind))


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [1, 2, 100])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["tied", "resnet"])
def test_chunks_change_nothing(network: str, method: str, chunk_size: int):
    model, x1, x2 = make(network, samples=4)
    found = empirical_ntk(model, x1, x2, kind="full", method=method, chunk_size=chunk_size)
    close(found, by_definition(model, x1, x2))


@pytest.mark.slow
@pytest.mark.parametrize("room", [1, 2000])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["loop", "jacobian", "structured"])
@pytest.mark.parametrize("network", ["mlp", "tied", "cnn"])
def test_groups_of_parameters_change_nothing(
    network: str, method: str, kind: str, room: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ways, "ROW_BYTES", room)
    model, x1, _ = make(network)
    found = empirical_ntk(model, x1, kind=kind, method=method, chunk_size=2)
    close(found, kernel_of_kind(expected_of(network, False), kind))


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_those_named_so(method: str):
    model, x1, x2 = make("cnn")
    found = empirical_ntk(model, x1, x2, kind="full", method=method, params="weights")
    close(found, by_definition(model, x1, x2, params="weight"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("part", ["bias", "2.", "13.bias"])
def test_a_filter_chooses_parameters(method: str, part: str):
    model, x1, _ = make("cnn")
    found = empirical_ntk(
        model, x1, kind="full", method=method, params=lambda name, parameter: part in name
    )
    close(found, by_definition(model, x1, params=part))


@pytest.mark.parametrize("method", METHODS)
def test_frozen_parameters_do_not_count(method: str):
    model, x1, _ = make("mlp")
    model[0].requires_grad_(False)
    model[2].weight.requires_grad_(False)
    rows = jacobian_rows(model, x1, [model[2].bias, *model[4].parameters()])
    found = empirical_ntk(model, x1, kind="full", method=method)
    close(found, tangent_kernel(rows, rows))


# Identities


@pytest.mark.parametrize("network", ["tokens", "darts"])
def test_kinds_are_parts_of_the_full_kernel(network: str):
    model, x, _ = make(network)
    full = empirical_ntk(model, x, kind="full")
    close(empirical_ntk(model, x, kind="sum"), full.sum((2, 3)))
    diagonal = full.diagonal(dim1=2, dim2=3)
    close(empirical_ntk(model, x, kind="diagonal"), diagonal.contiguous())
    close(empirical_ntk(model, x, kind="trace"), diagonal.sum(2))


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_are_symmetric_and_positive_semidefinite(kind: str):
    model, x, _ = make("resnet", samples=6)
    found = empirical_ntk(model, x, kind=kind)
    if kind == "full":
        found = found.permute(0, 2, 1, 3).reshape(18, 18)
    matrices = found.permute(2, 0, 1) if kind == "diagonal" else found[None]
    for matrix in matrices:
        close(matrix, matrix.T.contiguous())
        values = torch.linalg.eigvalsh(matrix)
        assert values[0] >= -1e-12 * values[-1]


def test_a_linear_layer_has_the_kernel_of_the_closed_form():
    """Theta_ab(x, y) = (<x, y> + 1) [a = b]."""
    x, y = double(4, 5), double(2, 5)
    model = nn.Linear(5, 3).double()
    expected = (x @ y.T + 1)[..., None, None] * torch.eye(3, dtype=torch.float64)
    close(empirical_ntk(model, x, y, kind="full"), expected)
    close(empirical_ntk(model, x, y, kind="sum"), 3 * (x @ y.T + 1))


@pytest.mark.parametrize("method", ["loop", "jacobian", "structured"])
@pytest.mark.parametrize("network", ["cnn", "darts"])
def test_float32_is_close(network: str, method: str):
    """Rows have relative errors of some 1e-6; their products are added up in float64."""
    model, x, _ = make(network)
    found = empirical_ntk(model.float(), x.float(), kind="full", method=method)
    exact = expected_of(network, False)
    assert found.dtype == torch.float32
    assert_close(found.double(), exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


def test_the_kernel_is_in_the_type_asked_for():
    model, x, _ = make("mlp")
    assert empirical_ntk(model, x, dtype=torch.float32).dtype == torch.float32


# Networks that are not plain


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_outside_any_layer_is_counted(kind: str):
    model = settled(own_parameter(), (5,))
    x = double(3, 5)
    expected = kernel_of_kind(by_definition(model, x), kind)
    for method in ("auto", "loop", "jacobian", "vector_product"):
        close(empirical_ntk(model, x, kind=kind, method=method), expected)
    with pytest.raises(ValueError, match=r"'1\.gain' is used outside of a known layer's call"):
        empirical_ntk(model, x, kind=kind, method="structured")


def test_a_parameter_that_is_not_asked_for_is_no_hindrance():
    model = settled(own_parameter(), (5,))
    x = double(3, 5)
    found = empirical_ntk(
        model, x, kind="full", method="structured", params=lambda name, _: "gain" not in name
    )
    chosen = [*model[0].parameters(), *model[3].parameters()]
    rows = jacobian_rows(model, x, chosen)
    close(found, tangent_kernel(rows, rows))


class Standardised(nn.Conv2d):
    """Its weight has mean zero; so has the stored one, and only the gradient shows it."""

    def __init__(self) -> None:
        super().__init__(2, 3, 3)
        with torch.no_grad():
            self.weight -= self.weight.mean((1, 2, 3), keepdim=True)

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(input, weight, self.bias)


class Scaled(nn.Linear):
    """Twice a linear layer."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Renamed(nn.Linear):
    """A subclass that changes nothing."""


class SecondNorm(nn.BatchNorm1d):
    """A subclass of a norm."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) ** 2


class ChangedAfterwards(nn.Module):
    """What enters a layer is changed in place once the layer has seen it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = x * 1.0
        z = self.first(y.detach())
        y.mul_(3.0)
        return self.head(torch.tanh(z) + y[:, :4])


class TokensFirst(nn.Module):
    """A linear layer that sees [tokens, samples, features]."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.inner(x.transpose(0, 1)))
        return self.head((y * y).mean(0))


class Flattened(nn.Module):
    """A linear layer that sees [samples * tokens, features]."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.inner(x.flatten(0, 1)))
        return self.head(y.unflatten(0, x.shape[:2]).square().mean(1))


class Functional(nn.Module):
    """A layer whose weight is read by somebody else, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(F.linear(self.layer(x), self.layer.weight)))


def own_forward() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
    layer = model[0]
    layer.forward = lambda input: F.linear(input, 3 * layer.weight, layer.bias)
    return model


def convolutional(conv: nn.Module) -> nn.Module:
    return nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))


REFUSED = {
    "standardised weight": (
        lambda: convolutional(Standardised()),
        (2, 5, 5),
        r"'0\.bias' is used outside",
    ),
    "scaled": (lambda: nn.Sequential(Scaled(5, 2)), (5,), r"'0\.bias' is used outside"),
    "weight norm": (
        lambda: nn.Sequential(weight_norm(nn.Linear(5, 2))),
        (5,),
        r"parameter '0\.bias' is used outside",
    ),
    "spectral norm": (
        lambda: nn.Sequential(spectral_norm(nn.Linear(5, 2))),
        (5,),
        r"parameter '0\.bias' is used outside",
    ),
    "circular padding": (
        lambda: convolutional(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")),
        (2, 5, 5),
        "'0.bias' is used outside",
    ),
    "padding by name": (
        lambda: convolutional(nn.Conv2d(2, 3, 3, padding="same")),
        (2, 5, 5),
        "'0.bias' is used outside",
    ),
    "tokens first": (TokensFirst, (3, 4), "layer 'inner' sees 3 samples where the batch has 4"),
    "four tokens first": (TokensFirst, (4, 4), "layer 'inner' mixes samples"),
    "flattened": (Flattened, (3, 4), "layer 'inner' sees 12 samples where the batch has 4"),
    "functional": (Functional, (5,), r"parameter 'layer\.weight' is used outside"),
    "forward of its own": (own_forward, (5,), r"parameter '0\.bias' is used outside"),
    "norm of its own": (
        lambda: nn.Sequential(nn.Linear(5, 3), SecondNorm(3)),
        (5,),
        r"parameter '1\.bias' is used outside",
    ),
    "prelu": (
        lambda: nn.Sequential(nn.Linear(5, 3), nn.PReLU(), nn.Linear(3, 2)),
        (5,),
        r"parameter '1\.weight' is used outside",
    ),
    "bilinear": (
        lambda: Affine(5),
        (5,),
        r"parameter 'gain' is used outside",
    ),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("samples", [2, 3, 4])
@pytest.mark.parametrize("name", REFUSED)
def test_structured_refuses_by_name_where_auto_is_right(name: str, samples: int):
    factory, shape, message = REFUSED[name]
    model = settled(factory(), shape)
    x = double(samples, *shape)
    close(empirical_ntk(model, x, kind="full"), by_definition(model, x))
    with pytest.raises(ValueError, match=rf'method="structured" cannot take .*{message}.*"auto"'):
        empirical_ntk(model, x, kind="full", method="structured")


@pytest.mark.parametrize("method", ["auto", "jacobian", "vector_product"])
@pytest.mark.parametrize("channels", [1, 3])
def test_slopes_of_prelu_are_each_samples_own(channels: int, method: str):
    """As many samples as outputs: there torch.func takes one for the other."""
    model = nn.Sequential(nn.Linear(5, 3), nn.PReLU(channels)).double()
    x = double(3, 5)
    close(empirical_ntk(model, x, kind="full", method=method), by_definition(model, x))


def test_an_input_that_is_changed_afterwards_is_no_input_any_more():
    """Autograd itself cannot differentiate such a network; here it is named."""
    model = settled(ChangedAfterwards(), (5,))
    with pytest.raises(ValueError, match="what enters layer 'first' is changed in place"):
        empirical_ntk(model, double(3, 5), method="structured")


def test_a_subclass_that_changes_nothing_is_taken():
    model = nn.Sequential(Renamed(5, 4), nn.Tanh(), Renamed(4, 2)).double()
    x = double(3, 5)
    close(empirical_ntk(model, x, kind="full", method="structured"), by_definition(model, x))


class Constants(nn.Module):
    """A layer that no sample enters, changed in place behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x.new_ones(len(x), 3)).mul_(2.0)
        return self.head(y * x)


def test_a_layer_may_see_constants():
    model = settled(Constants(), (4,))
    x = double(3, 4)
    close(empirical_ntk(model, x, kind="full", method="structured"), by_definition(model, x))


def test_hooks_that_change_inputs_and_outputs_count():
    model, x, _ = make("mlp")
    model[2].register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
    model[2].register_forward_hook(lambda module, inputs, output: output**2)
    close(empirical_ntk(model, x, kind="full", method="structured"), by_definition(model, x))


class Filled(nn.Module):
    """Writes into a tensor of its own, which transforms cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros(len(x), 3, dtype=x.dtype)
        y[:] = torch.tanh(x * self.gain)
        return y


def test_auto_loops_where_transforms_fail():
    model, x = Filled().double(), double(3, 3)
    expected = by_definition(model, x)
    close(empirical_ntk(model, x, kind="full"), expected)
    with pytest.raises(ValueError, match=r'method="jacobian" cannot take .*"auto"'):
        empirical_ntk(model, x, method="jacobian")


# What is left behind


def state_of(model: nn.Module) -> list:
    modules = list(model.modules())
    return [
        [(name, b.clone(), id(b)) for name, b in model.named_buffers()],
        [module.training for module in modules],
        [(p.requires_grad, p.grad, id(p)) for p in model.parameters()],
        [sorted(vars(module)) for module in modules],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules],
        [(m.momentum, m.track_running_stats) for m in modules if isinstance(m, nn.BatchNorm2d)],
    ]


def unchanged(model: nn.Module, before: list) -> None:
    after = state_of(model)
    for (name, value, identity), (_, now, same) in zip(before[0], after[0], strict=True):
        assert torch.equal(value, now) and identity == same, name
    assert after[1:] == before[1:]


@pytest.mark.parametrize("batch_norm", [None, "frozen", "batch"])
@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method: str, batch_norm: str | None):
    model, x, _ = make("resnet")
    model.train(batch_norm is not None)
    model[0].eval()
    before = state_of(model)
    if batch_norm == "batch" and method not in ("auto", "loop"):
        with pytest.raises(ValueError, match="couples the samples"):
            empirical_ntk(model, x, method=method, batch_norm=batch_norm)
    else:
        empirical_ntk(model, x, method=method, batch_norm=batch_norm)
    unchanged(model, before)
    assert x.grad is None and not x.requires_grad


class Failing(nn.Module):
    """Fails at a given call."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.calls, self.at = 0, at

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise KeyError("as planned")
        return x


@pytest.mark.parametrize("batch_norm", [None, "frozen"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("at", [1, 2, 7])
def test_the_model_is_left_as_it_was_after_an_error(at: int, method: str, batch_norm: str | None):
    model, x, _ = make("resnet")
    looks = len(x) if at == 7 and method == "vector_product" else 0  # at outputs, before it begins
    model.append(Failing(at + looks))
    before = state_of(model)
    # The checks are over, and there is another way.
    is_taken_over = at == 7 and method in ("auto", "vector_product") and batch_norm is None
    fails = pytest.raises((KeyError, ValueError), match="as planned")
    with contextlib.nullcontext() if is_taken_over else fails:
        empirical_ntk(model, x, kind="full", method=method, batch_norm=batch_norm, chunk_size=1)
    unchanged(model, before)


@pytest.mark.parametrize("grad_enabled", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_it_works_with_gradients_on_or_off_and_returns_no_graph(method: str, grad_enabled: bool):
    model, x, _ = make("mlp")
    with torch.set_grad_enabled(grad_enabled):
        found = empirical_ntk(model, x.clone().requires_grad_(), method=method)
    assert not found.requires_grad
    close(found, kernel_of_kind(expected_of("mlp", False), "sum"))


# Choices


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "mean"}, "kind must be one of sum, trace, diagonal, full, got 'mean'"),
        ({"method": "fast"}, "method must be one of auto, loop, .*, got 'fast'"),
        ({"batch_norm": "eval"}, "batch_norm must be one of None, frozen, batch, got 'eval'"),
        ({"chunk_size": 0}, "chunk_size must be a whole number and at least 1, got 0"),
        ({"params": "biases"}, "must be all, weights or a function .*, got 'biases'"),
        (
            {"batch_norm": "batch", "method": "structured"},
            'couples the samples, which only method="loop" can follow, got method="structured"',
        ),
    ],
)
def test_choices_are_checked(options: dict, message: str):
    model, x, _ = make("mlp")
    unchecked = getattr(empirical_ntk, "__wrapped__", empirical_ntk)  # types are the tests' own
    with pytest.raises(ValueError, match=message):
        unchecked(model, x, **options)


def test_the_batchs_own_norms_know_one_batch():
    model, x1, x2 = make("resnet")
    with pytest.raises(ValueError, match="knows one batch: leave x2 out"):
        empirical_ntk(model, x1, x2, batch_norm="batch")


class Several(nn.Module):
    """Two rows for each sample."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten()


def test_the_output_is_checked_with_the_batchs_own_norms_too():
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), Several()).double()
    with pytest.raises(ValueError, match=r"\[samples, ...\], got \(12, 1\) for 3 samples"):
        empirical_ntk(model, double(3, 5), batch_norm="batch")


_ = partial
