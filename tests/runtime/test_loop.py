import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from darts_gdas.runtime import checkpoint
from darts_gdas.runtime.checkpoint import CheckpointError, CheckpointFolder
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.files import RunFolder, WriteError
from darts_gdas.runtime.loop import Loop
from darts_gdas.runtime.saving import OnSaveError, Saving
from darts_gdas.runtime.signals import Interrupted
from darts_gdas.runtime.task import Callback, EpochReport, Progress
from tests.ranks import on_ranks


class Walk:
    """A random walk by torch's global generator: every step depends on all before."""

    num_epochs = 4
    steps_per_epoch = 3
    selection_metric = "score"

    def __init__(self) -> None:
        self.position = torch.zeros(1)
        self.epochs_done = 0
        self.seen: list[int] = []
        self.fail_at = -1
        self.stop_at = -1
        self.finish_after = 99
        self.scores = [0.1, 0.4, 0.2, 0.3]

    @property
    def is_finished(self) -> bool:
        return self.epochs_done >= self.finish_after

    def train_step(self, progress: Progress) -> dict[str, tuple[Tensor, int]]:
        self.seen.append(progress.global_step)
        self.position = 0.5 * self.position + torch.randn(1)
        if progress.global_step == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        value = torch.nan if progress.global_step == self.fail_at else self.position.item()
        return {"position": (torch.tensor(value * 2), 2)}

    def evaluate(self, progress: Progress) -> dict[str, float]:
        self.epochs_done = progress.epoch + 1
        return {"score": self.scores[progress.epoch]}

    def shared(self) -> list[Tensor]:
        return [self.position]

    def state_dict(self) -> dict:
        return {"position": self.position, "epochs_done": self.epochs_done}

    def load_state_dict(self, state: dict) -> None:
        self.position = state["position"]
        self.epochs_done = state["epochs_done"]


class Recorder(Callback):
    def __init__(self) -> None:
        self.reports: list[EpochReport] = []
        self.stopped = 0

    def on_epoch_end(self, report: EpochReport) -> None:
        self.reports.append(report)

    def on_stop(self) -> None:
        self.stopped += 1


def loop_in(path: Path, saving: Saving | None = None) -> tuple[Loop, Recorder]:
    folder, recorder = RunFolder(path), Recorder()
    folder.create()
    loop = Loop(
        folder,
        kind="walk",
        fingerprint="{}",
        callbacks=[recorder],
        device=torch.device("cpu"),
        saving=saving,
    )
    return loop, recorder


def test_every_step_is_taken_once_and_reported_per_epoch(tmp_path: Path):
    torch.manual_seed(0)
    loop, recorder = loop_in(tmp_path)
    task = Walk()
    metrics = loop.run(task)
    assert task.seen == list(range(12))
    assert [report.step for report in recorder.reports] == [3, 6, 9, 12]
    assert [report.is_best for report in recorder.reports] == [True, True, False, False]
    assert metrics["score"] == 0.3 and recorder.stopped == 1
    best = loop.checkpoints.best()
    assert best is not None and best.name == "step-000000006.pt"


@pytest.mark.parametrize("stop_at", [1, 2, 4, 9])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, stop_at: int):
    torch.manual_seed(0)
    whole, recorder = loop_in(tmp_path / "whole")
    whole_task = Walk()
    whole.run(whole_task)

    torch.manual_seed(0)
    first, first_recorder = loop_in(tmp_path / "parts")
    task = Walk()
    task.stop_at = stop_at
    with pytest.raises(Interrupted, match="the state is saved") as stop:
        first.run(task)
    assert stop.value.exit_status == 130 and first_recorder.stopped == 1

    torch.manual_seed(99)  # another process starts with other numbers
    second, second_recorder = loop_in(tmp_path / "parts")
    found = CheckpointFolder(tmp_path / "parts" / "checkpoints").newest()
    assert found is not None
    again = Walk()
    second.load(again, found[1])
    second.run(again)

    assert torch.equal(again.position, whole_task.position)
    assert task.seen + again.seen == whole_task.seen
    resumed = [r.metrics for r in first_recorder.reports + second_recorder.reports]
    assert resumed == [r.metrics for r in recorder.reports]
    assert [r.is_best for r in second_recorder.reports] == [
        r.is_best for r in recorder.reports[-len(second_recorder.reports) :]
    ]


class Stopped(Walk):
    """A walk of which the second rank alone is asked to stop."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    def train_step(self, progress: Progress) -> dict[str, tuple[Tensor, int]]:
        torch.manual_seed(progress.global_step)
        if progress.global_step == 1 and not self.ranks.is_first:
            os.kill(os.getpid(), signal.SIGUSR2)
        return super().train_step(progress)


def stop_and_requeue(ranks: Ranks, path: Path) -> bool:
    """Whether the launcher of the first rank is done when this rank ends; it takes its time."""

    def requeue(signum: int, _: object) -> None:
        if ranks.is_first:
            time.sleep(0.5)
            (path / "requeued").touch()
            raise SystemExit(1)

    signal.signal(signal.SIGUSR2, requeue)
    loop = Loop(
        RunFolder(path), kind="walk", fingerprint="{}", callbacks=[], device=torch.device("cpu"),
        ranks=ranks,
    )  # fmt: skip
    with pytest.raises(SystemExit if ranks.is_first else Interrupted):
        loop.run(Stopped(ranks))
    return (path / "requeued").exists()


def test_no_rank_is_gone_before_the_first_ones_launcher_has_requeued_the_job(tmp_path: Path):
    """Also where the signal has reached another rank only."""
    RunFolder(tmp_path).create()
    assert on_ranks(partial(stop_and_requeue, path=tmp_path), tmp_path) == [True, True]


def test_a_metric_that_is_not_finite_stops_before_anything_is_saved(tmp_path: Path):
    loop, recorder = loop_in(tmp_path)
    task = Walk()
    task.fail_at = 4
    with pytest.raises(FloatingPointError, match=r"diverged in epoch 2: \{'position': nan\}"):
        loop.run(task)
    found = loop.checkpoints.newest()
    assert found is not None and found[1]["epoch"] == 1
    assert recorder.stopped == 1


def test_an_evaluation_that_is_not_finite_is_no_success(tmp_path: Path):
    loop, _ = loop_in(tmp_path)
    task = Walk()
    task.scores = [0.1, 0.2, 0.3, float("inf")]
    with pytest.raises(FloatingPointError, match="'score': inf"):
        loop.run(task)
    found = loop.checkpoints.newest()
    assert found is not None and found[1]["epoch"] == 3


def test_a_diverged_state_is_not_saved_on_request_either(tmp_path: Path):
    loop, _ = loop_in(tmp_path)
    task = Walk()
    task.fail_at = task.stop_at = 1
    with pytest.raises(FloatingPointError, match="diverged in epoch 1"):
        loop.run(task)
    assert loop.checkpoints.newest() is None


def test_a_run_resumed_at_its_end_returns_its_last_metrics(tmp_path: Path):
    loop, _ = loop_in(tmp_path)
    metrics = loop.run(Walk())
    again, _ = loop_in(tmp_path)
    found = again.checkpoints.newest()
    assert found is not None
    task = Walk()
    again.load(task, found[1])
    assert again.run(task) == metrics and task.seen == []


def test_a_task_that_is_finished_ends_the_run_before_its_last_epoch(tmp_path: Path):
    loop, recorder = loop_in(tmp_path)
    task = Walk()
    task.finish_after = 2
    metrics = loop.run(task)
    assert task.seen == list(range(6)) and metrics["score"] == 0.4
    assert len(recorder.reports) == 2 and recorder.stopped == 1
    found = loop.checkpoints.newest()
    assert found is not None and found[1]["epoch"] == 2

    again, _ = loop_in(tmp_path)  # resumed, it stays finished
    same = Walk()
    same.finish_after = 2
    again.load(same, found[1])
    assert again.run(same) == metrics and same.seen == []


def test_foreign_checkpoints_are_refused(tmp_path: Path):
    loop, _ = loop_in(tmp_path)
    loop.run(Walk())
    found = loop.checkpoints.newest()
    assert found is not None
    state = found[1]
    for change, message in (
        ({"kind": "run"}, "the checkpoint is of a run, this run is a walk"),
        ({"schema": 1}, "schema 1, this version reads 2"),
        ({"task": {}}, "does not fit this run: 'position'"),
        ({"meter": [3]}, "does not fit this run: 'int' object"),
        ({"random": [{}]}, "does not fit this run: 'cpu'"),
        ({"epoch": "1"}, r"\['epoch'\] are of other types"),
        ({"kind": None}, "the checkpoint is of a None"),
    ):
        with pytest.raises(CheckpointError, match=message):
            loop.load(Walk(), state | change)


def saved(path: Path) -> list[str]:
    return sorted(file.name for file in (path / "checkpoints").glob("*.pt"))


@pytest.mark.parametrize("step", range(1, 12))
def test_every_step_can_be_a_checkpoint_to_go_on_from(tmp_path: Path, step: int):
    """Within an epoch and at its end; the rest of the run is the same bit for bit."""
    torch.manual_seed(0)
    whole, recorder = loop_in(tmp_path, Saving(keep_checkpoints=99, checkpoint_every=1))
    whole_task = Walk()
    whole.run(whole_task)
    assert saved(tmp_path) == [f"step-{i:09d}.pt" for i in range(1, 13)]
    end = checkpoint.load(tmp_path / "checkpoints" / "step-000000012.pt")

    torch.manual_seed(99)
    again, second_recorder = loop_in(tmp_path)
    task = Walk()
    again.load(task, checkpoint.load(tmp_path / "checkpoints" / f"step-{step:09d}.pt"))
    again.run(task)
    assert task.seen == list(range(step, 12))
    assert torch.equal(task.position, whole_task.position)
    same = checkpoint.load(tmp_path / "checkpoints" / "step-000000012.pt")
    assert torch.equal(same["random"][0]["cpu"], end["random"][0]["cpu"])
    kept = second_recorder.reports
    expected = recorder.reports[-len(kept) :]
    assert [(r.metrics, r.is_best) for r in kept] == [(r.metrics, r.is_best) for r in expected]


def test_checkpoints_within_epochs_come_every_few_steps_and_replace_each_other(tmp_path: Path):
    loop, _ = loop_in(tmp_path, Saving(keep_checkpoints=3, checkpoint_every=2))
    loop.run(Walk())  # steps 2, 3, 5, 6, 8, 9, 11, 12; the best is that after step 6
    assert saved(tmp_path) == [f"step-{i:09d}.pt" for i in (6, 9, 11, 12)]


def test_a_diverged_state_is_not_saved_within_an_epoch_either(tmp_path: Path):
    loop, _ = loop_in(tmp_path, Saving(checkpoint_every=1))
    task = Walk()
    task.fail_at = 4
    with pytest.raises(FloatingPointError, match="diverged in epoch 2"):
        loop.run(task)
    assert saved(tmp_path)[-1] == "step-000000004.pt"


def full_disc(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """No checkpoint after these steps can be written."""
    original = checkpoint.write_atomically

    def write(path: Path, *arguments, **settings):
        if any(path.name == f"step-{step:09d}.pt" for step in steps):
            raise WriteError(f"{path.name} cannot be written: No space left on device")
        original(path, *arguments, **settings)

    monkeypatch.setattr(checkpoint, "write_atomically", write)


def test_a_full_disc_ends_the_run_and_earlier_checkpoints_stand(tmp_path: Path, monkeypatch):
    full_disc(monkeypatch, {9})
    loop, recorder = loop_in(tmp_path)
    message = r"step-000000009\.pt cannot be .* earlier checkpoints stand.* on_save_error=warn"
    with pytest.raises(WriteError, match=message):
        loop.run(Walk())
    assert saved(tmp_path) == ["step-000000003.pt", "step-000000006.pt"]
    assert recorder.stopped == 1


def test_a_full_disc_can_be_a_warning(tmp_path: Path, monkeypatch, caplog):
    full_disc(monkeypatch, {6, 9})
    torch.manual_seed(0)
    loop, recorder = loop_in(tmp_path, Saving(on_save_error=OnSaveError.warn))
    task = Walk()
    loop.run(task)
    assert len(recorder.reports) == 4 and caplog.text.count("on_save_error=warn") == 2
    assert saved(tmp_path) == ["step-000000003.pt", "step-000000012.pt"]
    (fact,) = loop.writes.facts().values()
    assert fact.startswith("2 times, the last a checkpoint: step-000000009.pt cannot be written")


def test_a_follower_that_cannot_write_is_treated_alike(tmp_path: Path, caplog):
    class Failing(Callback):
        def on_epoch_end(self, report: EpochReport) -> None:
            raise OSError("No space left on device")

        def on_stop(self) -> None:
            raise OSError("No space left on device")

    for policy in OnSaveError:
        loop, recorder = loop_in(tmp_path / policy.name, Saving(on_save_error=policy))
        loop.callbacks = [Failing(), recorder]
        if policy is OnSaveError.stop:
            with pytest.raises(WriteError, match="Failing: No space left"):
                loop.run(Walk())
        else:
            loop.run(Walk())
            assert loop.writes.num_failed == 5
        assert recorder.stopped == 1


def test_a_stop_whose_state_cannot_be_saved_says_so(tmp_path: Path, monkeypatch):
    full_disc(monkeypatch, {5})
    loop, _ = loop_in(tmp_path, Saving(on_save_error=OnSaveError.warn))
    task = Walk()
    task.stop_at = 4
    with pytest.raises(Interrupted, match="could not be saved, earlier checkpoints stand"):
        loop.run(task)
    assert saved(tmp_path) == ["step-000000003.pt"]


def test_a_second_signal_during_the_save_does_not_spoil_it(tmp_path: Path, monkeypatch):
    original = checkpoint.torch.save

    def save(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        original(*arguments)

    loop, _ = loop_in(tmp_path)
    task = Walk()
    task.stop_at = 1
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as stop:
        patch.setattr(checkpoint.torch, "save", save)
        loop.run(task)
    assert stop.value.exit_status == 130  # of the first
    found = CheckpointFolder(tmp_path / "checkpoints").newest()
    assert found is not None and found[1]["step"] == 2


def test_a_signal_after_the_last_step_is_heeded_and_nothing_is_done_again(tmp_path: Path):
    class AskedLate(Walk):
        def evaluate(self, progress: Progress) -> dict[str, float]:
            if progress.epoch == self.num_epochs - 1:
                os.kill(os.getpid(), signal.SIGINT)
            return super().evaluate(progress)

    loop, _ = loop_in(tmp_path)
    with pytest.raises(Interrupted, match="stopped after the last epoch, 4") as stop:
        loop.run(AskedLate())
    assert stop.value.exit_status == 130
    again, recorder = loop_in(tmp_path)
    found, task = CheckpointFolder(tmp_path / "checkpoints").newest(), Walk()
    assert found is not None
    again.load(task, found[1])
    assert again.run(task) == loop.last and (task.seen, recorder.reports) == ([], [])


def test_a_crash_between_the_best_checkpoint_and_its_note_loses_neither(tmp_path: Path):
    torch.manual_seed(0)
    first, _ = loop_in(tmp_path)
    task = Walk()
    task.stop_at = 6
    with pytest.raises(Interrupted):
        first.run(task)
    folder = CheckpointFolder(tmp_path / "checkpoints")
    (folder.folder / "step-000000007.pt").unlink()
    folder.mark_best(3)  # as if it had been killed before the note of step 6
    again, _ = loop_in(tmp_path)
    found = folder.newest()
    assert found is not None and found[0].name == "step-000000006.pt"
    again.load(Walk(), found[1])
    again.run(Walk())
    best = folder.best()
    assert best is not None and best.name == "step-000000006.pt"
