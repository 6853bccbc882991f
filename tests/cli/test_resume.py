"""What a command goes on with."""

import json
from pathlib import Path

import pytest
import yaml

from darts_gdas.runtime.checkpoint import CheckpointFolder
from darts_gdas.runtime.files import RunFolder

TINY = ["method=random", "net.channels=2", "net.layers=3", "space.num_nodes=2", "epochs=1"]
SMALL = [*TINY, "dataset.test_fraction=0.9"]


def test_a_finished_run_of_other_settings_is_refused_and_they_are_named(run, tmp_path: Path):
    there = ["run_dir=mine", "resume=auto"]
    assert run("search.py", *SMALL, *there)[0] == 0
    status, out, _ = run("search.py", *SMALL, *there)
    assert status == 0 and out == "mine has finished already; nothing to resume\n"
    for other in ("seed=5", "dataset.augment.crop_padding=0"):
        status, out, err = run("search.py", *SMALL, other, *there)
        assert status == 2 and out == "" and err.count("\n") == 1
        assert "mine has finished with other settings (" + other.split("=")[0] in err
    assert run("search.py", *SMALL, "threads=1", *there)[0] == 0  # changes no result


def test_a_run_that_died_before_its_first_checkpoint_gives_nothing_away(run, tmp_path: Path):
    dead = RunFolder(tmp_path / "outputs" / "search" / "dead")
    dead.create()
    (dead.path / "overrides.yaml").write_text(yaml.safe_dump([*SMALL, "seed=7"]))
    status, _, err = run("search.py", *SMALL, "resume=auto")
    assert status == 0
    assert "dead ended before its first checkpoint and had other settings (seed: 7 -> 0)" in err
    assert "; below outputs/search there is none that this command goes on with\n" in err
    (made,) = (p for p in dead.path.parent.iterdir() if p != dead.path)
    assert yaml.safe_load((made / "config.yaml").read_text())["seed"] == 0
    assert not dead.result.exists()
    status, _, err = run("search.py", "resume=auto")  # says nothing else: goes on with that one
    assert status == 0 and "dead, which ended before its first checkpoint\n" in err
    assert yaml.safe_load((dead.path / "config.yaml").read_text())["seed"] == 7
    assert json.loads(dead.result.read_text())["kind"] == "search"


def test_a_named_checkpoint_is_gone_back_to_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """As a scheduler does that starts the same command again; the old course is put aside."""
    checkpoints, name = CheckpointFolder(tmp_path, keep=9), "step-000000002.pt"
    for step in (2, 4, 6):
        checkpoints.save(step, {"course": 1, "step": step}, is_best=False)
    assert checkpoints.at(name) == {"course": 1, "step": 2}
    checkpoints.go_back_to(name)
    assert "step-000000004.pt, step-000000006.pt of later steps put aside in" in caplog.text
    assert sorted(p.name for p in (tmp_path / "left").glob("*.pt")) == [
        "step-000000004.pt",
        "step-000000006.pt",
    ]
    checkpoints.save(3, {"course": 2, "step": 3}, is_best=False)
    checkpoints.go_back_to(name)
    assert checkpoints.at(name) == {"course": 2, "step": 3}
    (tmp_path / name).unlink()  # no longer kept
    assert checkpoints.at(name) == {"course": 2, "step": 3}
    (tmp_path / "gone_back_to").unlink()
    checkpoints.save(2, {"course": 3, "step": 2}, is_best=False)
    assert checkpoints.at(name) == {"course": 3, "step": 2}
