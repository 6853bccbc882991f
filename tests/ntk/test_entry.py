"""What every function of a network and samples says before it works."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.ntk import (
    empirical_nngp,
    empirical_ntk,
    extreme_eigenvalues,
    ntk_on_disc,
    ntk_vector_product,
    projected_ntk,
)
from darts_gdas.ntk.checks import TooLarge
from darts_gdas.ntk.entry import is_full, tried
from tests.ntk.networks import Call
from tests.ntk.test_kernel import METHODS

pytestmark = pytest.mark.usefixtures("seeded")

FUNCTIONS: dict[str, Callable[[Any, Any, Any, Path], Any]] = {
    "kernel": lambda m, x, p, _: empirical_ntk(m, x, params=p),
    "product": lambda m, x, p, _: ntk_vector_product(m, x, torch.ones(3, 2), params=p),
    "eigenvalues": lambda m, x, p, _: extreme_eigenvalues(m, x, params=p),
    "projected": lambda m, x, p, _: projected_ntk(m, x, projections=2, params=p),
    "on disc": lambda m, x, p, folder: ntk_on_disc(folder, m, x, params=p),
}


def layers() -> dict[str, nn.Module]:
    return {"one": nn.Linear(4, 2), "other": nn.Linear(4, 2)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_that_move_no_output_are_refused_by_every_function(name: str, tmp_path: Path):
    def one(name: str, _: nn.Parameter) -> bool:
        return "one" in name

    for model, params in (
        (Call(lambda net, x: torch.no_grad()(net.one)(x), **layers()), "all"),
        (Call(lambda net, x: net.other(x), **layers()), one),
        (Call(lambda net, x: torch.no_grad()(net.one)(x) + net.other(x), **layers()), one),
    ):
        with pytest.raises(ValueError, match=r"depend on no selected parameter, neither 'one\.w"):
            FUNCTIONS[name](model, torch.randn(3, 4), params, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_inference_mode_is_named(name: str, tmp_path: Path):
    model, x = nn.Linear(4, 2), torch.randn(3, 4)
    with (
        torch.inference_mode(),
        pytest.raises(ValueError, match=r"torch\.inference_mode\(\) is on"),
    ):
        FUNCTIONS[name](model, x, "all", tmp_path / "new")
    with torch.inference_mode():
        made = nn.Linear(4, 2)
    with pytest.raises(ValueError, match=r"'weight' was made under torch\.inference_mode\(\)"):
        FUNCTIONS[name](made, x, "all", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("method", METHODS)
def test_samples_may_be_made_in_inference_mode(method: str):
    """The trace kernel of a linear layer is its outputs times <x, x'> + 1."""
    model = nn.Linear(4, 2).double()
    with torch.inference_mode():
        x = torch.randn(3, 4, dtype=torch.float64)
    found = empirical_ntk(model, x, kind="trace", method=method)
    assert_close(found, (2 * (x @ x.T + 1)).clone())
    with torch.inference_mode():
        assert_close(empirical_nngp(model, x), model(x) @ model(x).T)


def test_a_full_memory_is_one_line():
    """The text is PyTorch's for a CPU."""
    raw = RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 1638400000 bytes. Error code 12\nframe #0: ..."
    )
    assert is_full(raw) and is_full(torch.OutOfMemoryError()) and not is_full(RuntimeError("no"))
    for error, kind, message in (
        (raw, TooLarge, r"^the memory is full \(.*16384.*\); lower chunk_size, [^\n]*$"),
        (torch.OutOfMemoryError("as planned"), torch.OutOfMemoryError, "^as planned$"),
    ):
        with pytest.raises(kind, match=message), tried(nn.Linear(4, 2), torch.randn(3, 4), None):
            raise error


def test_no_way_is_tried_after_one_that_filled_the_memory(monkeypatch: pytest.MonkeyPatch):
    tried_ways: list[str] = []

    def full(*_: Any) -> Tensor:
        tried_ways.append("jacobian")
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("darts_gdas.ntk.generic.JacobianRows.fill", full)
    monkeypatch.setattr(
        "darts_gdas.ntk.generic.LoopRows.fill", lambda *_: tried_ways.append("loop")
    )
    model = Call(lambda net, x: net.one(x) * net.one.bias, one=nn.Linear(4, 2))
    with pytest.raises(ValueError, match="the memory is full"):
        empirical_ntk(model, torch.randn(3, 4))
    assert tried_ways == ["jacobian"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_outputs_that_are_no_numbers_are_named_by_every_function(name: str, tmp_path: Path):
    """Its derivative is finite where the logarithm is not; the sample lies in the middle."""
    model, x = Call(lambda net, x: net.one(x).log(), one=nn.Linear(4, 2)), torch.rand(3, 4)
    with torch.no_grad():
        model.one.weight.fill_(1.0)
        model.one.bias.fill_(0.0)
    x[1] *= -1
    with pytest.raises(ValueError, match=r"^the model's outputs hold numbers .* not finite; look"):
        FUNCTIONS[name](model, x, "all", tmp_path / "new")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch_norm", [None, "frozen"])
def test_outputs_that_are_no_numbers_are_named_by_every_method(method: str, batch_norm: str | None):
    model, x = Call(lambda net, x: net.one(x).log(), one=nn.Linear(4, 2)), torch.rand(5, 4)
    nn.init.ones_(model.one.weight), nn.init.zeros_(model.one.bias)
    x[2] *= -1
    for one, other in ((x, None), (x[:1], x)):
        with pytest.raises(ValueError, match=r"^the model's outputs hold numbers that are not fin"):
            empirical_ntk(model, one, other, method=method, batch_norm=batch_norm)


def test_what_the_first_and_last_sample_do_not_use_may_be_asked_for():
    """Of two experts, the kernel of the one that samples in the middle take."""

    def routed(net: Any, x: Tensor) -> Tensor:
        return torch.cat([(net.one if y[0, 0] > 0 else net.other)(y) for y in x.split(1)])

    model, x = Call(routed, **layers()).double(), torch.randn(5, 4, dtype=torch.float64)
    x[:, 0] = torch.tensor([-1.0, 1.0, 1.0, -1.0, -1.0])
    found = empirical_ntk(model, x, params=lambda name, _: "one" in name, kind="trace")
    expected = torch.zeros_like(found)
    expected[1:3, 1:3] = 2 * (x[1:3] @ x[1:3].T + 1)
    assert_close(found, expected)


def test_outputs_of_networks_that_were_made_in_inference_mode_have_a_kernel():
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    x = torch.randn(5, 4)
    with torch.no_grad():
        y = model(x)
    assert_close(empirical_nngp(model, x), (y @ y.T).clone())


def test_a_network_without_outputs_is_refused():
    with pytest.raises(ValueError, match=r"^the model has no outputs: it returns 0 numbers for"):
        empirical_ntk(Call(lambda net, x: net.one(x)[:, :0], one=nn.Linear(4, 2)), torch.ones(3, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_default_type_does_not_matter(dtype: torch.dtype):
    """Positions of samples exceed what it can count to."""
    model, x = nn.Linear(4, 2).double(), torch.randn(2100, 4, dtype=torch.float64)
    torch.set_default_dtype(dtype)
    try:
        found = empirical_ntk(model, x[:1], x, kind="trace")
    finally:
        torch.set_default_dtype(torch.float32)
    assert_close(found, 2 * (x[:1] @ x.T + 1))


def test_products_of_rows_are_not_those_of_autocast():
    """Rows are what the network computes there; their products are exact."""
    model, x = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 3)), torch.randn(6, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found, features = empirical_ntk(model, x), empirical_nngp(model, x)
        outputs = model(x)
        rows = torch.stack(
            [
                torch.cat([g.flatten() for g in torch.autograd.grad(y, [*model.parameters()])])
                for y in (model(one).sum() for one in x.split(1))
            ]
        )
    rows, outputs = rows.double(), outputs.detach().double()
    assert_close(found.double(), rows @ rows.T, rtol=1e-6, atol=1e-5)
    assert_close(features.double(), outputs @ outputs.T, rtol=1e-6, atol=1e-6)
