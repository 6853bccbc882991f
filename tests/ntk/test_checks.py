"""Wrong input to a kernel is one clear error, before any work."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.ntk import (
    checks,
    empirical_nngp,
    empirical_ntk,
    extreme_eigenvalues,
    ntk_on_disc,
    ntk_vector_product,
    projected_ntk,
    subsampled_ntk,
)

X = torch.ones(3, 4)


def linear() -> nn.Module:
    return nn.Linear(4, 2)


class Centred(nn.Module):
    """Each sample less the mean of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x - x.mean(0)).softmax(-1)


class Pair(nn.Module):
    """Two outputs, as a network with an auxiliary head returns them in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), self.layer(x)


def with_nan() -> nn.Module:
    net = linear()
    with torch.no_grad():
        net.weight[0, 0] = math.nan  # type: ignore[index]
    return net


@pytest.mark.parametrize(
    ("x1", "x2", "message"),
    [
        (torch.ones(3, 4).bool(), None, "x1 must hold floating-point numbers, or tokens"),
        (torch.ones(4), None, r"x1 must hold samples \[samples, ...\].* got shape \(4,\)"),
        (torch.ones(0, 4), None, "at least one"),
        (X * math.inf, None, "x1 holds numbers that are not finite"),
        (X, X * math.nan, "x2 holds numbers that are not finite"),
        (X, torch.ones(0, 4), "x2 must hold samples .*at least one"),
        (X, torch.ones(3, 5), r"one shape and type .*, got \(4,\) .* and \(5,\)"),
        (X, X.to("meta"), "^x2 must be dense, .* got torch.strided in torch.float32 on meta$"),
        (X.to_sparse(), None, "^x1 must be dense, .* got torch.sparse_coo in torch.float32 on cpu"),
        (X.to(torch.float8_e4m3fn), None, "^x1 .* of 16 bits or more, got .* torch.float8_e4m3fn"),
        (torch.nested.as_nested_tensor([X, X], layout=torch.jagged), None, "got a nested tensor$"),
        (X, X.double(), "torch.float32 on cpu and .* torch.float64 on cpu"),
    ],
)
def test_inputs_are_checked(x1: Tensor, x2: Tensor | None, message: str):
    with pytest.raises(ValueError, match=message):
        checks.check_inputs(x1, x2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (with_nan(), "parameter 'weight' holds numbers that are not finite"),
        (nn.Sequential(linear(), nn.BatchNorm1d(2)), r"batch norm '1' .* call model\.eval\(\)"),
        (
            nn.Sequential(linear(), nn.BatchNorm1d(2, track_running_stats=False)).eval(),
            'pass batch_norm="frozen"',
        ),
        (nn.Sequential(nn.Dropout(0.5), linear()), "dropout '0' is active"),
        (Centred(), "depends on other samples of the batch"),
        (Pair(), "must return a tensor .* got tuple for 2 samples"),
        (nn.Sequential(linear(), nn.Flatten(0)), r"got \(4, 1\) for 2 samples"),
        (linear().requires_grad_(False), "selects none of the model's parameters"),
    ],
)
def test_models_are_checked(model: nn.Module, message: str):
    x = torch.arange(12.0).view(3, 4)
    with pytest.raises(ValueError, match=message):
        empirical_ntk(model, x)


@pytest.mark.parametrize(
    ("model", "x"), [(linear(), X.double()), (linear().double(), X), (linear().to("meta"), X)]
)
def test_samples_that_the_model_cannot_take_are_named(model: nn.Module, x: Tensor):
    place = next(model.parameters())
    message = rf"take samples in {x.dtype} on cpu: .*'weight' is in {place.dtype} on {place.device}"
    for call in (
        lambda: empirical_ntk(model, x),
        lambda: empirical_ntk(model, x, batch_norm="frozen"),
        lambda: empirical_nngp(model, x),
        lambda: subsampled_ntk(model, x, outputs=2),
        lambda: extreme_eigenvalues(model, x),
    ):
        with pytest.raises(ValueError, match=message):
            call()


class Converts(nn.Module):
    """Takes samples of any type."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float())


def test_a_model_may_convert_its_samples():
    model = Converts(linear())
    expected = empirical_ntk(model.layer, X, dtype=torch.float64)
    assert_close(empirical_ntk(model, X.double()), expected)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("size", [0, -1, 2.5, "4", True])
def test_samples_per_pass_are_a_whole_number(size: Any):
    for call in (
        lambda: empirical_ntk(linear(), X, chunk_size=size),
        lambda: empirical_nngp(linear(), X, chunk_size=size),
        lambda: extreme_eigenvalues(linear(), X, chunk_size=size),
        lambda: ntk_vector_product(linear(), X, torch.ones(3, 2), chunk_size=size),
        lambda: projected_ntk(linear(), X, projections=2, chunk_size=size),
    ):
        with pytest.raises(ValueError, match=f"chunk_size must be a whole .* 1, got {size!r}"):
            call()


@pytest.mark.usefixtures("untyped")
def test_numpy_counts_too():
    assert type(checks.check_count("n", np.int64(4))) is int
    x = torch.randn(5, 4)
    net = linear()
    assert_close(empirical_ntk(net, x, chunk_size=np.int64(2)), empirical_ntk(net, x))


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        *((value, True) for value in (1, 0.5, np.float32(1), torch.tensor(2.0))),
        *((value, False) for value in (True, "1", None, 1j, torch.ones(2))),
    ],
)
def test_numbers_are_real(value: Any, is_one: bool):
    assert checks.is_number(value) is is_one


FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "empirical_ntk": lambda m, x: empirical_ntk(m, x),
    "empirical_nngp": lambda m, x: empirical_nngp(m, x),
    "projected_ntk": lambda m, x: projected_ntk(m, x, projections=2),
    "subsampled_ntk": lambda m, x: subsampled_ntk(m, x, outputs=2),
    "extreme_eigenvalues": lambda m, x: extreme_eigenvalues(m, x),
    "ntk_vector_product": lambda m, x: ntk_vector_product(m, x, torch.ones(3, 2)),
    "ntk_on_disc": lambda m, x: ntk_on_disc("nowhere", m, x),
}


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against it
        return nn.Sequential(torch.jit.trace(linear(), X))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_checks_its_network_and_samples(name: str):
    for model, message in (
        (lambda x: x, "the model must be a torch.nn.Module, got function"),
        (nn.LazyLinear(2), r"'weight' has no shape yet \(a lazy layer\); call the model once"),
        (traced(), r"the model is compiled by TorchScript \(0\)"),
    ):
        with pytest.raises(ValueError, match=message):
            FUNCTIONS[name](model, X)
    for x, kind in ((X.numpy(), "ndarray"), (X.tolist(), "list"), ({}, "dict"), (None, "NoneType")):
        with pytest.raises(ValueError, match=f"x1 must be a tensor, got {kind}"):
            FUNCTIONS[name](linear(), x)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", ["empirical_ntk", "empirical_nngp", "projected_ntk"])
@pytest.mark.parametrize("dtype", ["float32", torch.int64, torch.bfloat16, False])
def test_sums_are_in_a_type_that_holds_them(name: str, dtype: Any):
    options = {"projections": 2} if name == "projected_ntk" else {}
    function = globals()[name]
    with pytest.raises(
        ValueError, match=r"dtype must be torch.float64, torch.float32 or None, got"
    ):
        function(linear(), X, dtype=dtype, **options)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 2.0}, "count, below .* must be a whole number in 1..5, got 2.0"),
        ({"tolerance": -1}, r"tolerance must lie in \[0, 1\), got -1"),
        ({"max_products": 0}, "max_products must be a whole number and at least 1, got 0"),
        ({"end": "middle"}, "end must be largest or smallest, got 'middle'"),
    ],
)
def test_choices_of_eigenvalues_are_checked(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        extreme_eigenvalues(linear(), X, **options)
    with pytest.raises(ValueError, match="has one eigenvalue"):
        extreme_eigenvalues(nn.Linear(4, 1), X[:1])


@pytest.mark.usefixtures("untyped")
def test_params_are_checked():
    for params in (["weight"], None):
        with pytest.raises(ValueError, match=r"a function of \(name, parameter\), got"):
            empirical_ntk(linear(), X, params=params)
    with pytest.raises(ValueError, match=r"must be all, weights or a function .*, got 'bias'"):
        checks.select_parameters(linear(), "bias")
    with pytest.raises(ValueError, match="selects none"):
        empirical_ntk(linear(), X, params=lambda name, _: False)


def test_a_kernel_that_does_not_fit_is_refused_with_an_estimate(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "free_memory", lambda device: 2**30)
    big = torch.ones(20_000, 4)
    with pytest.raises(ValueError, match=r"needs about 35\.8 GiB, 1\.0 GiB are free"):
        empirical_ntk(linear(), big, kind="full")  # 3 * 4 * 20,000^2 * 8 bytes


def test_rows_that_do_not_fit_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch):
    """128 rows of 50,000 x 64 numbers in float32 are 1.5 GiB."""
    monkeypatch.setattr(checks, "free_memory", lambda device: 2**30)
    like = torch.empty(0)
    message = (
        r"^the Jacobian of 'e\.weight', 128 rows of 3,200,000 numbers, needs about 1\.5 GiB, 1\.0"
    )
    with pytest.raises(ValueError, match=message):
        checks.check_rows(128, 3_200_000, "e.weight", like)
    checks.check_rows(128, 2**21, "e.weight", like)
    monkeypatch.setattr(checks, "free_memory", lambda device: 100_000)
    model = nn.Sequential(nn.Embedding(1000, 8), nn.Flatten(), nn.Linear(24, 2))
    tokens = torch.randint(1000, (4, 3))
    with pytest.raises(ValueError, match=r"Jacobian of '0\.weight', 8 rows of 8,000 numbers"):
        empirical_ntk(model, tokens, kind="trace")
    assert empirical_ntk(model, tokens[:2], kind="sum").shape == (2, 2)  # 64,000 bytes


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("value", ["no", 0, None])
def test_trust_is_a_yes_or_a_no(value: Any, tmp_path: Path):
    for call in (
        lambda: empirical_ntk(linear(), X, trusted=value),
        lambda: ntk_on_disc(tmp_path / "new", linear(), X, trusted=value),
    ):
        with pytest.raises(ValueError, match=f"trusted must be True or False, got {value!r}"):
            call()
    assert not (tmp_path / "new").exists()


def test_free_memory_is_some_of_this_machines():
    assert 2**20 < checks.free_memory(torch.device("cpu")) < 2**50


def test_the_vector_must_fit():
    with pytest.raises(ValueError, match=r"must have shape \(3, 2\) .* got \(3, 3\)"):
        ntk_vector_product(linear(), X, torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"must be in torch.float32 on cpu .*got torch.float64"):
        ntk_vector_product(linear(), X, torch.ones(3, 2).double())


def test_eigenvalues_are_some_of_those_there_are():
    with pytest.raises(
        ValueError, match=r"count, below .* must be a whole number in 1\.\.5, got 6"
    ):
        extreme_eigenvalues(linear(), X, count=6)


class Spectral(nn.Module):
    """A complex weight between a Fourier transform and its inverse, and a real layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.layer = nn.Parameter(torch.ones(3, dtype=torch.complex64)), linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=4))


def test_complex_weights_are_refused_unless_they_are_left_out():
    model, x = Spectral(), torch.randn(3, 4)
    for call in (
        lambda: empirical_ntk(model, x),
        lambda: empirical_ntk(model, x, kind="full"),
        lambda: projected_ntk(model, x, projections=2),
        lambda: extreme_eigenvalues(model, x),
    ):
        with pytest.raises(
            ValueError, match=r"'weight' is in torch\.complex64, of which there is no"
        ):
            call()
    real = empirical_ntk(model, x, params=lambda _, p: not p.is_complex())
    assert_close(real, empirical_ntk(model.layer, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["structured", "jacobian", "loop"])
def test_products_of_half_precision_keep_their_range(method: str):
    """2000 features of 8: 4 (2000 * 64 + 1), beyond float16, whose numbers end at 65,504."""
    model, x = nn.Linear(2000, 4), torch.full((2, 2000), 8.0).half()
    expected = torch.full((2, 2), 512_004.0)
    assert_close(empirical_ntk(model.half(), x, method=method), expected)
    assert_close(empirical_ntk(Converts(model.float()), x, method=method), expected)


def test_what_half_precision_cannot_hold_is_refused():
    x = torch.full((2, 2000), 8.0).half()
    with pytest.raises(ValueError, match=r"exceed the range of the model's torch.float16; convert"):
        empirical_ntk(nn.Linear(2000, 4).half(), x, method="vector_product")
    assert_close(empirical_nngp(nn.Identity(), 50 * x[:, :3])[0, 1], torch.tensor(4.8e5))
