"""Faults of whole programs: one line, exit status by contract, nothing run, nothing lost."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.soak import TINY as SOAKED
from benchmarks.soak import Soak, compare, is_same
from darts_gdas.runtime import checkpoint
from darts_gdas.runtime.checkpoint import CheckpointFolder
from darts_gdas.runtime.datasets import Digits
from darts_gdas.runtime.files import RunFolder, WriteError
from darts_gdas.tasks.ranking import ScoreTask
from darts_gdas.tasks.stage import StageSearch
from tests.cli.test_runs import ENVIRONMENT, ROOT

TINY = ["method=gdas", "epochs=2", "net.channels=2", "net.layers=3", "space.num_nodes=2",
        "dataset.test_fraction=0.9", "run_dir=run"]  # fmt: skip


def test_out_of_memory_is_one_line_and_checkpoints_are_kept(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = StageSearch.train_weights

    def train_weights(self, *arguments):
        if (
            self.weight_step.optimizer.state
            and len(list((tmp_path / "run" / "checkpoints").glob("*.pt"))) == 1
        ):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self, *arguments)

    monkeypatch.setattr(StageSearch, "train_weights", train_weights)
    status, out, err = run("search.py", *TINY)
    assert status == 1 and out == ""
    assert "Error executing job" not in err
    last = err.splitlines()[-1]
    assert last.startswith("error: out of memory on the ") and "Tried to allocate 2.00 GiB" in last
    found = CheckpointFolder(tmp_path / "run" / "checkpoints").newest()
    assert found is not None and found[1]["epoch"] == 1


def test_a_ranking_out_of_memory_is_one_line_too(run, monkeypatch: pytest.MonkeyPatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(ScoreTask, "run", no_memory)
    status, out, err = run("darts_gdas/score.py", "space=nasbench201", "count=3", "channels=2")
    last = err.splitlines()[-1]
    assert status == 1 and out == "" and last.startswith("error: out of memory on the ")
    assert "fewer channels (now 2)" in last and last.endswith("What is scored is kept")


def test_a_fault_of_one_run_is_not_the_end_of_a_sweep(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = StageSearch.train_weights

    def train_weights(self, *arguments):
        if self.seed == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self, *arguments)

    monkeypatch.setattr(StageSearch, "train_weights", train_weights)
    status, out, err = run("search.py", "-m", *TINY[:-1], "epochs=1", "seed=1,2")
    assert status == 1
    (sweep,) = (tmp_path / "outputs" / "search").iterdir()
    assert [path.parent.name for path in sweep.glob("*/result.json")] == ["1"]
    assert out.count("Search finished") == 1 and (sweep / "report.html").exists()
    assert f"error: {sweep / '0'}: out of memory on the " in err
    failed = str(sweep / "0")
    assert err.splitlines()[-1] == f"error: 1 of 2 runs failed: {failed}"


def test_data_of_one_job_that_cannot_be_loaded_are_not_the_end_of_a_sweep(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = Digits.load

    def load(self):
        if self.seed == 1:
            raise FileNotFoundError(2, "No such file or directory", "images")
        return original(self)

    monkeypatch.setattr(Digits, "load", load)
    status, out, err = run("search.py", "-m", *TINY[:-1], "epochs=1", "dataset.seed=1,0")
    assert status == 1 and out.count("Search finished") == 1
    (sweep,) = (tmp_path / "outputs" / "search").iterdir()
    assert [path.parent.name for path in sweep.glob("*/result.json")] == ["1"]
    assert (sweep / "report.html").exists()
    assert f"error: {sweep / '0'}: [Errno 2] No such file or directory: 'images'" in err
    assert err.splitlines()[-1] == f"error: 1 of 2 runs failed: {sweep / '0'}"


def test_a_batch_larger_than_the_images_is_told(run, caplog: pytest.LogCaptureFixture):
    status, out, err = run("search.py", *TINY, "epochs=1", "batch_size=1500")
    counted = re.search(r"classes: ([\d,]+) for the weights", err + out)
    assert status == 0 and counted is not None
    number = counted[1].replace(",", "")
    assert (
        f"batch_size=1500 is more than there are: each step takes all {number} images"
        in caplog.text
    )


def test_a_wrong_value_of_a_job_ends_a_sweep_before_its_first(run, tmp_path: Path):
    status, out, err = run("search.py", "-m", *TINY[:-1], "epochs=1", "batch_size=64,1,32")
    assert status == 2 and out == "" and err.count("\n") == 1
    assert err.startswith("error: job 1 (") and " batch_size=1" in err
    assert err.endswith("batch_size must be at least 2, got 1\n")
    assert not list(tmp_path.iterdir())


def test_what_nobody_foresaw_in_a_sweep_is_told_at_once_and_the_others_go_on(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = StageSearch.train_weights

    def train_weights(self, *arguments):
        if self.seed == 1:
            raise KeyError("some bug")
        return original(self, *arguments)

    monkeypatch.setattr(StageSearch, "train_weights", train_weights)
    arguments = ("-m", *TINY[:-1], "epochs=1", "seed=0,1,2", "hydra.sweep.dir=sweep")
    status, _, err = run("search.py", *arguments)
    assert status == 1 and (tmp_path / "sweep" / "compare.csv").exists()
    told = err.index(f"error: {tmp_path}/sweep/1: KeyError: 'some bug'")
    assert told < err.index(f"starting search in {tmp_path}/sweep/2")
    assert err.splitlines()[-1] == f"error: 1 of 3 runs failed: {tmp_path}/sweep/1"


def full_disc(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, *arguments, **settings):
        raise WriteError(f"{str(path)!r} cannot be written: No space left on device")

    monkeypatch.setattr(checkpoint, "write_atomically", write)


def test_a_full_disc_is_one_line_and_the_run_has_not_finished(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    full_disc(monkeypatch)
    status, out, err = run("search.py", *TINY)
    assert status == 1 and out == ""
    assert "error: a checkpoint: 'run/checkpoints/step-0" in err.splitlines()[-1]
    assert not RunFolder(tmp_path / "run").result.exists()


def test_a_full_disc_may_be_a_warning_that_the_summary_repeats(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    full_disc(monkeypatch)
    status, out, _ = run("search.py", *TINY, "on_save_error=warn")
    assert status == 0
    assert "not saved" in out and "2 times, the last a checkpoint: 'run/checkpoints/step-0" in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["not_saved"].startswith("2 times")


@pytest.mark.parametrize(
    "arguments",
    [["run_dir=/proc/run"], ["run_dir=file/run"], ["outputs=file"], ["outputs=/proc/out"],
     ["run_dir=/proc/run", "resume=auto"]],
    ids=" ".join,
)  # fmt: skip
def test_a_place_that_cannot_be_written_is_refused_before_the_data_are_loaded(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
):
    monkeypatch.setattr(Digits, "load", lambda self: pytest.fail("the data were loaded"))
    (tmp_path / "file").write_text("")
    status, _, err = run("search.py", *arguments)
    assert status == 2 and err.count("\n") == 1 and "cannot be made or written" in err


def test_a_folder_in_use_is_refused_before_the_data_are_loaded(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Digits, "load", lambda self: pytest.fail("the data were loaded"))
    folder = RunFolder(tmp_path / "run")
    folder.create()
    with folder.lock():
        status, _, err = run("search.py", "run_dir=run")
    assert status == 2 and err.count("\n") == 1 and "is in use by another process (" in err


def test_what_a_dead_process_left_is_removed_at_the_next_start(run, tmp_path: Path):
    left = tmp_path / "run" / "checkpoints" / ".step-000000001.pt.123.tmp"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    assert run("search.py", *TINY, "epochs=1", "resume=auto")[0] == 0
    assert not left.exists()


def test_a_configuration_cannot_run_code(run, tmp_path: Path):
    (tmp_path / "evil" / "method").mkdir(parents=True)
    marker = tmp_path / "marker"
    for name, content in {
        "tag": f"epochs: !!python/object/apply:os.system ['touch {marker}']",
        "target": f"relaxation:\n  _target_: os.system\n  command: touch {marker}",
    }.items():
        (tmp_path / "evil" / "method" / f"{name}.yaml").write_text(
            f"# @package _global_\n{content}\n"
        )
        for arguments in (
            [f"method={name}", "--config-dir=evil"],
            [f"method=../../evil/method/{name}"],
        ):
            status, _, err = run("search.py", *arguments)
            assert status == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert not marker.exists()


@pytest.mark.parametrize(
    "settings",
    [["keep_checkpoints=0"], ["checkpoint_every=-1"], ["on_save_error=ignore"]],
    ids=" ".join,
)
def test_impossible_savings_are_one_line(run, settings: list[str]):
    status, _, err = run("search.py", *settings)
    assert status == 2 and err.count("\n") == 1 and settings[0].split("=")[0] in err


def test_a_search_goes_on_bit_for_bit_from_the_middle_of_an_epoch(run, tmp_path: Path):
    """Everything it leaves is what the undisturbed one left: states, metrics, curves, cells."""
    settings = [*TINY, "batch_size=16", "checkpoint_every=2", "keep_checkpoints=99"]
    assert run("search.py", *settings)[0] == 0
    whole, again = tmp_path / "run", tmp_path / "again"
    shutil.copytree(whole, again)
    (again / "result.json").unlink()
    middle = CheckpointFolder(again / "checkpoints").folder / "step-000000008.pt"
    assert checkpoint.load(middle)["step"] > 0
    assert run("search.py", f"resume={middle}", "checkpoint_every=0")[0] == 0
    assert compare(again, whole) == []


def test_a_retraining_goes_on_bit_for_bit_from_the_middle_of_an_epoch(run, tmp_path: Path):
    """Drop-path draws from the global generator, whose state is part of the checkpoint."""
    settings = ["genotype=DARTS_V1", "epochs=2", "net.channels=2", "net.layers=3", "batch_size=64",
                "dataset.test_fraction=0.9", "regularization.drop_path=0.5", "checkpoint_every=2",
                "keep_checkpoints=99", "run_dir=run"]  # fmt: skip
    assert run("train.py", *settings)[0] == 0
    whole, again = tmp_path / "run", tmp_path / "again"
    shutil.copytree(whole, again)
    (again / "result.json").unlink()
    paths = sorted((again / "checkpoints").glob("*.pt"))
    middle = next(path for path in paths[::-1] if checkpoint.load(path)["step"])
    assert middle != paths[-1] and checkpoint.load(middle)["epoch"] == 1
    assert run("train.py", f"resume={middle}")[0] == 0
    states = [checkpoint.load(path / "checkpoints" / paths[-1].name) for path in (whole, again)]
    for state in states:
        del state["seconds"]
    assert is_same(*states)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_search_survives_being_killed_at_random_moments(tmp_path: Path):
    """A short `python -m benchmarks soak`."""
    settings = (*SOAKED, "epochs=3")
    Soak(settings, random.Random(0), longest=1.0).run(tmp_path / "whole", 0)
    soak = Soak(settings, random.Random(1), longest=1.0)
    assert soak.run(tmp_path / "killed", 3) == 3
    assert compare(tmp_path / "killed", tmp_path / "whole") == []


def test_a_sweep_that_was_stopped_goes_on_as_it_says(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original, stops = StageSearch.train_weights, [2]

    def train_weights(self, *arguments):
        if self.seed in stops:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(StageSearch, "train_weights", train_weights)
    arguments = ("-m", *TINY[:-1], "epochs=1", "seed=1,2")
    status, _, err = run("search.py", *arguments)
    (sweep,) = (tmp_path / "outputs" / "search").iterdir()
    said = err.splitlines()[-1].removeprefix("go on with: the same command and ")
    assert status == 130 and tmp_path / said.removeprefix("hydra.sweep.dir=") == sweep
    stops.clear()
    status, out, err = run("search.py", *arguments, said)
    assert status == 0 and "has finished already" in out and "resuming search in " in err
    assert sorted(p.parent.name for p in sweep.glob("*/result.json")) == ["0", "1"]
    assert "gdas       2 " in out.split("Search finished")[-1]


def test_settings_are_shown_to_nobody_where_output_is_closed():
    words = shlex.join([sys.executable, str(ROOT / "search.py"), "--cfg", "job"])
    done = subprocess.run(f"{words} >&-", shell=True, env=ENVIRONMENT, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("redirected", "status"), [("> /dev/full", 1), ("2> /dev/full", 0), ("2>&-", 0)]
)
def test_a_run_whose_words_find_no_room_is_whole(tmp_path: Path, redirected: str, status: int):
    """As where a scheduler keeps output on a disc that fills up, or a terminal is gone."""
    words = [sys.executable, str(ROOT / "search.py"), *TINY, "warm_start=none"]
    done = subprocess.run(
        f"{shlex.join(words)} {redirected}",
        shell=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    folder = RunFolder(tmp_path / "run")
    assert done.returncode == status and "Traceback" not in done.stderr
    assert len(folder.metrics.read_text().splitlines()) == 2
    assert (folder.path / "genotype.json").exists() and (folder.path / "report.html").exists()
    if status:
        assert done.stderr.splitlines()[-1].startswith("error: standard output takes nothing (No s")
    else:
        assert "Search finished" in done.stdout and not done.stderr
