"""What a folder says that it is for, and who may go on in it."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from darts_gdas.ntk import collect_ntk, ntk_on_disc
from darts_gdas.ntk.fingerprint import Fingerprint
from darts_gdas.ntk.plans import Plan, planned

NET, X = nn.Linear(3, 2), torch.linspace(-1, 1, 12).view(4, 3)


def computed(rounding: float = 0.0) -> tuple[Plan, Fingerprint]:
    """A plan as a machine writes it, which rounds up by some."""
    outputs, gradients = np.array([[1.0, 2.0 + rounding]]), np.array([[3.0, 4.0 - rounding]])
    plan = Plan(4, None, 2, "digest", outputs.tolist(), gradients.tolist())
    return plan, Fingerprint(outputs, gradients, eps=2**-23, sensitivity=1.0)


def test_of_two_first_ranks_one_writes_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each finds none; the blocks of both must count under one."""
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda p: p.name != "plan.json" and exists(p))
    plans = [planned(tmp_path, *computed(rounding)) for rounding in (0.0, 1e-7)]
    assert computed(1e-7)[0].key != computed()[0].key
    assert plans[0].key == plans[1].key == computed()[0].key
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


@contextlib.contextmanager
def coarse_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("other", [lambda: torch.autocast("cpu", torch.bfloat16), coarse_products])
def test_a_folder_belongs_to_one_precision(tmp_path: Path, other: Any):
    """In which outputs may be closer than what another machine makes of them."""
    ntk_on_disc(tmp_path, NET, X, block_size=2, world=2)
    with (
        other(),
        pytest.raises(ValueError, match=r"kernel: (\w+, )*digest.* options and precision"),
    ):
        ntk_on_disc(tmp_path, NET, X, block_size=2, rank=1, world=2)
    assert ntk_on_disc(tmp_path, NET, X, block_size=2, rank=1, world=2) == 1


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", ["samples", "others", "block_size"])
@pytest.mark.parametrize("value", [3.0, True, "4", 0, [1]])
def test_a_plan_holds_whole_numbers(tmp_path: Path, name: str, value: Any):
    ntk_on_disc(tmp_path, NET, X, block_size=2)
    plan = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps(plan | {name: value}))
    message = rf"plan\.json is damaged \({name} must be a whole number"
    for call in (collect_ntk, lambda folder: ntk_on_disc(folder, NET, X, block_size=2)):
        with pytest.raises(ValueError, match=message):
            call(tmp_path)


def test_a_folder_is_no_plan(tmp_path: Path):
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(ValueError, match=r"plan\.json is damaged \(.*directory.*\); delete it"):
        ntk_on_disc(tmp_path, NET, X)
    with pytest.raises(ValueError, match=r"holds no kernel: there is no plan\.json"):
        collect_ntk(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_under_a_file_there_is_no_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file' is a file; the kernel goes into a folder"):
        ntk_on_disc(tmp_path / "file" / "new" / "er", NET, X)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("folder", [5, None, ["a"], b"a"])
def test_what_is_no_path_is_one_line(folder: Any):
    for call in (collect_ntk, lambda given: ntk_on_disc(given, NET, X)):
        with pytest.raises(ValueError, match="the folder must be a path, got "):
            call(folder)
