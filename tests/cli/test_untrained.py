"""What works without training, as a user starts it: warm starts, TE-NAS, ranking cells."""

import csv
import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from darts_gdas.space import Genotype
from tests.cli.test_runs import finish, newest_state, start

SMALL = ("net.channels=2", "dataset.test_fraction=0.9", "space=nasbench201")
NTK = (
    "warm_start=ntk",
    "warm_start.samples=10",
    "warm_start.channels=2",
    "warm_start.batch_size=4",
)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_warm_start_sets_the_first_alphas_and_shows_them(tmp_path: Path):
    run = tmp_path / "run"
    # So slow that the alphas stay where they began.
    slow = ("arch_optimizer.lr=1e-12", "arch_optimizer.weight_decay=0", "epochs=1")
    _out, err = finish(start(tmp_path, "search.py", *SMALL, *NTK, *slow, "run_dir=run"))
    assert "scoring cells: 10 of 10" in err
    table = rows(run / "warm_start.csv")
    alphas = newest_state(run)["task"]["arch"]["logits.normal"]
    said = torch.tensor([float(row["alpha"]) for row in table]).view(6, 5)
    torch.testing.assert_close(alphas, said, rtol=0, atol=1e-4)
    assert {row["drawn"] for row in table if row["candidate"] == "none"} == {"0"}
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert "warm_start/text_summary" in events.Tags()["tensors"]
    assert "warm_start/normal" in events.Tags()["images"]


def test_te_nas_finds_a_cell_without_training(tmp_path: Path):
    small = ("warm_start.repeats=1", "warm_start.batch_size=4", "warm_start.region_samples=20")
    out, _ = finish(start(tmp_path, "search.py", *SMALL, "method=te_nas", *small, "run_dir=run"))
    assert "nothing was trained" in out
    cell = Genotype.load(tmp_path / "run").to_arch_string()
    assert "none" not in cell
    assert json.loads((tmp_path / "run" / "result.json").read_text())["kind"] == "search"
    chosen = {row["edge"]: row for row in rows(tmp_path / "run" / "warm_start.csv")}
    assert len(chosen) == 6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("warm_start.samples=3", "warm_start.samples must be at least 10, got 3"),
        ("warm_start.scores=[luck]", "warm_start.scores must be distinct names out of ntk_logdet"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, override: str, message: str):
    _, err = finish(start(tmp_path, "search.py", "warm_start=ntk", override), status=2)
    assert err.startswith("error: ") and message in err and len(err.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()
