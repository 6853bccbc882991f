"""Kernels on disc: the same numbers, whatever the blocks, the ranks and the interruptions."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

from darts_gdas.ntk import collect_ntk, empirical_ntk, ntk_on_disc
from darts_gdas.ntk.ways import Ways
from tests.ntk.networks import make


@pytest.mark.parametrize("rectangular", [False, True])
@pytest.mark.parametrize("kind", ["trace", "diagonal", "full"])
def test_blocks_are_parts_of_the_kernel(tmp_path: Path, kind: str, rectangular: bool):
    model, x1, x2 = make("mlp", samples=7)
    others = x2 if rectangular else None
    for rank in (1, 0):  # six blocks in both cases
        done = ntk_on_disc(tmp_path, model, x1, others, block_size=3, rank=rank, world=2, kind=kind)
        assert done == 3
    found = collect_ntk(tmp_path)
    assert isinstance(found, np.memmap) and not found.flags.writeable
    assert_allclose(found, empirical_ntk(model, x1, others, kind=kind).numpy(), rtol=1e-12)
    assert not list(tmp_path.glob(".*"))


def test_it_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model, x, _ = make("mlp", samples=6)
    left, plain = [2], Ways.kernel

    def failing(*args):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(Ways, "kernel", failing)
    with pytest.raises(KeyboardInterrupt):
        ntk_on_disc(tmp_path, model, x, block_size=2)
    with pytest.raises(ValueError, match=r"4 of 6 blocks .* are missing or damaged"):
        collect_ntk(tmp_path)
    left[0] = 100
    assert ntk_on_disc(tmp_path, model, x, block_size=2) == 4
    assert ntk_on_disc(tmp_path, model, x, block_size=2) == 0
    assert_allclose(collect_ntk(tmp_path), empirical_ntk(model, x).numpy(), rtol=1e-12)


def test_the_network_is_tried_once(tmp_path: Path):
    """A block more costs its passes alone: k x k of them, and k for the outputs of all samples."""
    model, x, _ = make("mlp", samples=12)
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    counts = {}
    for parts in (3, 4):
        calls.clear()
        ntk_on_disc(tmp_path / str(parts), model, x, block_size=12 // parts)
        counts[parts] = len(calls)
    assert counts[4] - counts[3] == (16 + 4) - (9 + 3)


@pytest.mark.filterwarnings("ignore:.*is damaged and does not count")
@pytest.mark.parametrize("harm", ["flipped", "cut", "unsealed"])
def test_a_damaged_block_is_computed_again(tmp_path: Path, harm: str):
    model, x, _ = make("mlp", samples=4)
    ntk_on_disc(tmp_path, model, x, block_size=2)
    path = tmp_path / "block_00000_00001.npy"
    content = bytearray(path.read_bytes())
    if harm == "flipped":
        content[-3] ^= 1
    path.write_bytes(content[:-8] if harm == "cut" else content)
    if harm == "unsealed":
        path.with_suffix(".sha256").unlink()
    with pytest.raises(ValueError, match="1 of 3 blocks"):
        collect_ntk(tmp_path)
    assert ntk_on_disc(tmp_path, model, x, block_size=2) == 1
    assert_allclose(collect_ntk(tmp_path), empirical_ntk(model, x).numpy(), rtol=1e-12)


def test_a_folder_belongs_to_one_kernel(tmp_path: Path):
    model, x, _ = make("mlp", samples=4)
    ntk_on_disc(tmp_path, model, x, block_size=2)
    for other in ({"kind": "trace"}, {"params": "weights"}, {"block_size": 3}):
        with pytest.raises(ValueError, match=r"holds another kernel: .* differ"):
            ntk_on_disc(tmp_path, model, x, **{"block_size": 2} | other)
    with pytest.raises(ValueError, match="holds another kernel: digest"):
        ntk_on_disc(tmp_path, model, x + 1, block_size=2)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(ValueError, match="holds another kernel: digest"):
        ntk_on_disc(tmp_path, model, x, block_size=2)


class Function(torch.nn.Module):
    """A layer, and a function that is no module."""

    def __init__(self, layer: torch.nn.Linear, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def cut_off(y: Tensor) -> Tensor:
    """The values of y^2, with the gradient of y * constant."""
    return y * y.detach()


@pytest.mark.parametrize("other", [torch.sigmoid, lambda y: 2 * y.square(), cut_off])
def test_a_folder_belongs_to_one_function(tmp_path: Path, other: Callable[[Tensor], Tensor]):
    layer, x = torch.nn.Linear(3, 2).double(), torch.randn(4, 3).double()
    ntk_on_disc(tmp_path, Function(layer, torch.square), x)
    with pytest.raises(ValueError, match=r"holds another kernel: (outputs, )?gradients differ"):
        ntk_on_disc(tmp_path, Function(layer, other), x)
    assert ntk_on_disc(tmp_path, Function(layer, lambda y: y**2), x, kind="sum") == 0


@pytest.mark.filterwarnings("ignore:.*is damaged and does not count")
@pytest.mark.parametrize("harm", ["flipped", "cut", "unsealed"])
def test_a_damaged_kernel_is_written_again(tmp_path: Path, harm: str):
    model, x, _ = make("mlp", samples=4)
    ntk_on_disc(tmp_path, model, x, block_size=2)
    expected = np.array(collect_ntk(tmp_path))
    path = tmp_path / "kernel.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content[:-8] if harm == "cut" else content)
    if harm == "unsealed":
        path.with_suffix(".sha256").unlink()
    assert (collect_ntk(tmp_path) == expected).all()
    path.write_bytes(content)
    (tmp_path / "block_00000_00001.npy").unlink()
    with pytest.raises(ValueError, match="1 of 3 blocks"):
        collect_ntk(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"samples": 3}', "\0"])
def test_a_damaged_plan_is_one_line_and_loses_nothing(tmp_path: Path, content: str):
    model, x, _ = make("mlp", samples=4)
    ntk_on_disc(tmp_path, model, x, block_size=2)
    plan = tmp_path / "plan.json"
    plan.write_text(content)
    with pytest.raises(ValueError, match=r"plan\.json is damaged .*delete it"):
        collect_ntk(tmp_path)
    with pytest.raises(ValueError, match=r"plan\.json is damaged .*delete it"):
        ntk_on_disc(tmp_path, model, x, block_size=2)
    plan.unlink()
    assert ntk_on_disc(tmp_path, model, x, block_size=2) == 0


@pytest.mark.filterwarnings("ignore:.*is damaged and does not count")
def test_blocks_of_another_plan_do_not_count(tmp_path: Path):
    model, x, _ = make("mlp", samples=4)
    ntk_on_disc(tmp_path, model, x, block_size=2)
    collect_ntk(tmp_path)
    (tmp_path / "plan.json").unlink()
    with pytest.raises(ValueError, match="holds no kernel"):
        collect_ntk(tmp_path)
    assert ntk_on_disc(tmp_path, model, x + 1, block_size=2) == 3
    assert_allclose(collect_ntk(tmp_path), empirical_ntk(model, x + 1).numpy(), rtol=1e-12)


def test_a_folder_belongs_to_one_activation(tmp_path: Path):
    linear, x = torch.nn.Linear(3, 2), torch.ones(4, 3)
    ntk_on_disc(tmp_path, torch.nn.Sequential(linear, torch.nn.ReLU()), x)
    with pytest.raises(ValueError, match="holds another kernel: outputs, gradients differ"):
        ntk_on_disc(tmp_path, torch.nn.Sequential(linear, torch.nn.Tanh()), x)
    assert ntk_on_disc(tmp_path, torch.nn.Sequential(linear, torch.nn.ReLU()), x) == 0


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 0}, "block_size must be a whole number and at least 1, got 0"),
        ({"block_size": 2.5}, "block_size must be a whole number and at least 1, got 2.5"),
        ({"kind": "mean"}, "kind must be one of sum, trace, diagonal, full, got 'mean'"),
        ({"chunk_size": 0}, "chunk_size must be a whole number"),
        ({"x2": torch.ones(0, 5).double()}, "x2 must hold samples .* at least one"),
        ({"x2": torch.ones(2, 5)}, r"one shape and type .*float64 on cpu and .*float32 on cpu"),
        ({"rank": 2, "world": 2}, r"rank must be a whole number in 0\.\.1, got 2"),
        ({"rank": 1.0, "world": 2}, r"rank must be a whole number in 0\.\.1, got 1\.0"),
        ({"world": True}, "world must be a whole number and at least 1, got True"),
        ({"dtype": torch.bfloat16}, "dtype must be torch.float64, torch.float32 or None, got"),
        ({"batch_norm": "frozen"}, "would take the statistics of each block"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict, message: str
):
    model, x, _ = make("mlp")
    with pytest.raises(ValueError, match=message):
        ntk_on_disc(tmp_path / "new", model, x, **options)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="holds no kernel"):
        collect_ntk(tmp_path)


def test_a_kernel_that_has_no_room_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of five samples in float64, 200 bytes."""
    model, x = nn.Linear(2, 1).double(), torch.randn(5, 2).double()
    ntk_on_disc(tmp_path, model, x, block_size=2)
    before, usage = sorted(tmp_path.iterdir()), shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=199))
    with pytest.raises(OSError, match=r"kernel.npy takes 200 bytes, .* has 199 left") as refused:
        collect_ntk(tmp_path)
    assert refused.value.errno == errno.ENOSPC and sorted(tmp_path.iterdir()) == before
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=200))
    assert collect_ntk(tmp_path).shape == (5, 5)


def test_a_folder_belongs_to_one_form_of_gelu(tmp_path: Path):
    """In float32 their kernels differ by 2e-4."""
    linear, x = torch.nn.Linear(3, 2), torch.randn(40, 3)
    options = {"block_size": 20, "kind": "trace"}
    ntk_on_disc(tmp_path, torch.nn.Sequential(linear, torch.nn.GELU()), x, **options)
    (tmp_path / "block_00000_00001.npy").unlink()
    with pytest.raises(ValueError, match="holds another kernel: outputs"):
        ntk_on_disc(tmp_path, torch.nn.Sequential(linear, torch.nn.GELU("tanh")), x, **options)
    assert ntk_on_disc(tmp_path, torch.nn.Sequential(linear, torch.nn.GELU()), x, **options) == 1


def test_a_model_that_is_refused_leaves_no_plan(tmp_path: Path):
    model = Function(torch.nn.Linear(3, 2), lambda y: y * torch.nan)
    with pytest.raises(ValueError, match=r"gradients .* not finite"):
        ntk_on_disc(tmp_path, model, torch.ones(4, 3))
    with pytest.raises(ValueError, match="depends on other samples"):
        ntk_on_disc(tmp_path, Function(model.layer, lambda y: y - y.mean(0)), torch.randn(4, 3))
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file' is a file; the kernel goes into a folder"):
        ntk_on_disc(tmp_path / "file", torch.nn.Linear(3, 2), torch.ones(4, 3))
    with pytest.raises(ValueError, match="file' holds no kernel"):
        collect_ntk(tmp_path / "file")
