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
