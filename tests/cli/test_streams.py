"""Whole runs over images that stay in their files: as in memory, faults in one line."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.soak import is_same
from darts_gdas.runtime import data
from darts_gdas.runtime.checkpoint import CheckpointFolder
from darts_gdas.runtime.decoders import Decoders, Recipe

PICTURES = ["dataset=image_folder", "dataset.root=pictures", "dataset.image_size=8",
            "dataset.augment.crop_padding=1", "dataset.augment.cutout=2", "batch_size=4",
            "threads=1", "run_dir=run"]  # fmt: skip
SEARCH = ["method=gdas", "epochs=2", "net.channels=2", "net.layers=3", "space.num_nodes=2"]
RETRAINING = ["genotype=GDAS_V1", "epochs=2", "net.channels=2", "net.layers=3"]
STREAM = ["dataset.storage=stream", "dataset.workers=2"]


@pytest.fixture(autouse=True)
def _pictures(tmp_path: Path) -> None:
    """16 for training and 6 for testing, of two classes, twice as large as the network sees."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 16), ("test", 6)):
        for i in range(count):
            path = tmp_path / "pictures" / part / "ab"[i % 2] / f"{i:02d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (16, 18, 3), dtype=np.uint8)).save(path)


def last(folder: Path) -> dict:
    found = CheckpointFolder(folder / "checkpoints").newest()
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("script", "settings"),
    [("search.py", SEARCH), ("train.py", RETRAINING)],
    ids=["search", "train"],
)
def test_a_run_over_files_is_the_run_in_memory_bit_for_bit(
    run, tmp_path: Path, script: str, settings: list[str]
):
    states = []
    for i, storage in enumerate((["dataset.storage=memory"], [*STREAM, "dataset.cache=kept"])):
        status, _, err = run(script, *settings, *PICTURES[:-1], *storage, f"run_dir=run{i}")
        assert status == 0, err
        states.append(last(tmp_path / f"run{i}"))
    assert (tmp_path / "kept").is_dir()
    for part in ("task", "random", "last", "meter"):
        assert is_same(states[0][part], states[1][part])


def test_a_file_that_vanishes_is_one_line_and_the_run_goes_on_as_undisturbed(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert run("search.py", *SEARCH, *PICTURES[:-1], *STREAM, "run_dir=undisturbed")[0] == 0
    lost, original = tmp_path / "pictures" / "train" / "a" / "02.jpg", data.ReadAhead.__call__

    def read(self: data.ReadAhead, number: int, positions):
        if number == 2 and lost.exists():  # the third step of the weights, or of the alphas
            lost.rename(tmp_path / "lost.jpg")
            self._begun.clear()
        return original(self, number, positions)

    monkeypatch.setattr(data.ReadAhead, "__call__", read)
    status, out, err = run("search.py", *SEARCH, *PICTURES, *STREAM)
    told = err.splitlines()[-1]
    assert status == 1 and out == "" and "Traceback" not in err
    assert told.startswith(("error: epoch 1, ", "error: epoch 2, "))
    assert "cannot be read, 'pictures/train/a/02.jpg' (" in told
    assert told.endswith("the state is saved, go on with the same command and resume=auto")
    monkeypatch.setattr(data.ReadAhead, "__call__", original)
    (tmp_path / "lost.jpg").rename(lost)
    status, _, err = run("search.py", *SEARCH, *PICTURES, *STREAM, "resume=auto")
    assert status == 0, err
    states = [last(tmp_path / name) for name in ("run", "undisturbed")]
    assert is_same(states[0]["task"], states[1]["task"])


def test_a_killed_process_that_decodes_is_one_line(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original, asked = Decoders.request, []

    def request(self: Decoders, recipe: Recipe, paths: list[str], rows: list[int]):
        asked.append(len(paths))
        if len(asked) == 40:
            os.kill(self._pids.get(), 9)
        return original(self, recipe, paths, rows)

    monkeypatch.setattr(Decoders, "request", request)
    status, out, err = run("search.py", *SEARCH, "epochs=9", *PICTURES, *STREAM)
    told = err.splitlines()[-1]
    assert status == 1 and out == "" and "Traceback" not in err
    assert "a process that decodes images has died" in told
    assert told.endswith("the state is saved, go on with the same command and resume=auto")
    assert last(tmp_path / "run")["epoch"] < 9


def test_a_file_that_cannot_be_read_from_the_start_is_refused_before_the_run(run, tmp_path: Path):
    (tmp_path / "pictures" / "train" / "b" / "01.jpg").write_bytes(b"no picture")
    status, _, err = run("search.py", *SEARCH, *PICTURES, *STREAM)
    assert status == 2 and err.count("\n") == 1 and "pictures/train/b/01.jpg" in err
    assert not (tmp_path / "run").exists()


def test_workers_and_cache_may_be_others_when_a_run_goes_on(run, tmp_path: Path):
    common = [*SEARCH, *PICTURES, "dataset.storage=stream"]
    assert run("search.py", *common, "dataset.workers=1")[0] == 0
    (tmp_path / "run" / "result.json").unlink()
    status, _, err = run(
        "search.py", *common, "dataset.workers=0", "dataset.cache=c", "resume=auto"
    )
    assert status == 0, err
