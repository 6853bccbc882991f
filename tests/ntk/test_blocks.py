"""Kernels on disc: the same numbers, whatever the blocks, the ranks and the interruptions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from darts_gdas.ntk import blocks, collect_ntk, empirical_ntk, ntk_on_disc
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
    left, plain = [2], blocks.empirical_ntk

    def failing(*args, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return plain(*args, **options)

    monkeypatch.setattr(blocks, "empirical_ntk", failing)
    with pytest.raises(KeyboardInterrupt):
        ntk_on_disc(tmp_path, model, x, block_size=2)
    with pytest.raises(ValueError, match=r"4 of 6 blocks .* are missing or damaged"):
        collect_ntk(tmp_path)
    left[0] = 100
    assert ntk_on_disc(tmp_path, model, x, block_size=2) == 4
    assert ntk_on_disc(tmp_path, model, x, block_size=2) == 0
    assert_allclose(collect_ntk(tmp_path), plain(model, x).numpy(), rtol=1e-12)


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
    with pytest.raises(ValueError, match="holds another kernel: digest differ"):
        ntk_on_disc(tmp_path, model, x + 1, block_size=2)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(ValueError, match="holds another kernel: digest differ"):
        ntk_on_disc(tmp_path, model, x, block_size=2)


def test_a_folder_belongs_to_one_activation(tmp_path: Path):
    linear, x = torch.nn.Linear(3, 2), torch.ones(4, 3)
    ntk_on_disc(tmp_path, torch.nn.Sequential(linear, torch.nn.ReLU()), x)
    with pytest.raises(ValueError, match="holds another kernel: digest differ"):
        ntk_on_disc(tmp_path, torch.nn.Sequential(linear, torch.nn.Tanh()), x)
    assert ntk_on_disc(tmp_path, torch.nn.Sequential(linear, torch.nn.ReLU()), x) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"rank": 2, "world": 2}, r"rank must lie in 0..1 \(world is 2\), got 2"),
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
