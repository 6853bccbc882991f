"""The loop on two ranks: they stop, fail and go on together, and one of them writes."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from darts_gdas.runtime.checkpoint import CheckpointFolder
from darts_gdas.runtime.distributed import RankLost, Ranks
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.finite import FiniteGuard, OnNonFinite
from darts_gdas.runtime.loop import Loop
from darts_gdas.runtime.signals import Interrupted
from darts_gdas.runtime.task import Progress
from tests.ranks import messages, on_ranks


class Walk:
    """A walk common to the ranks, made of numbers that each draws for itself."""

    num_epochs, steps_per_epoch, selection_metric, is_finished = 3, 4, "score", False

    def __init__(self, ranks: Ranks, guard: FiniteGuard | None = None) -> None:
        self.ranks = ranks
        self.guard = guard or FiniteGuard(ranks=ranks)
        self.position = torch.zeros(1, dtype=torch.float64)
        self.drawn: list[float] = []
        self.signal_at: tuple[int, int] | None = None  # rank, step
        self.nan_at: dict[tuple[int, int], int] = {}  # how often

    def train_step(self, progress: Progress) -> dict[str, tuple[Tensor, int]]:
        here = self.ranks.rank, progress.global_step
        if self.signal_at == here:
            os.kill(os.getpid(), signal.SIGTERM)
        drawn = torch.randn(1, dtype=torch.float64)
        self.drawn.append(drawn.item())
        if self.nan_at.get(here, 0) > 0:
            self.nan_at[here] -= 1
            drawn = drawn * torch.nan
        mean = drawn.clone()
        self.ranks.average_([mean])
        if self.guard.passes("step", mean[0], loss=lambda: drawn[0], gradients=lambda: {}):
            self.position = 0.5 * self.position + mean
        return {"position": (self.position[0] * 2, 2)}

    def evaluate(self, progress: Progress) -> dict[str, float]:
        return {"score": self.position.item()}

    def shared(self) -> list[Tensor]:
        return [self.position]

    def state_dict(self) -> dict:
        return {"position": self.position}

    def load_state_dict(self, state: dict) -> None:
        self.position = state["position"]


def loop_of(folder: Path, ranks: Ranks, fingerprint: str = "{}") -> Loop:
    run = RunFolder(folder)
    if ranks.is_first:
        run.create()
    ranks.wait()
    torch.manual_seed(ranks.rank)
    return Loop(
        run, kind="walk", fingerprint=fingerprint, callbacks=[], device=torch.device("cpu"),
        ranks=ranks,
    )  # fmt: skip


def resumed(folder: Path, ranks: Ranks) -> tuple[Loop, Walk]:
    loop, task = loop_of(folder, ranks), Walk(ranks)
    found = CheckpointFolder(folder / "checkpoints").newest()
    assert found is not None
    loop.load(task, found[1])
    return loop, task


@pytest.mark.parametrize("asked", [0, 1])
def test_ranks_stop_after_the_same_step_and_go_on_to_the_same_end(tmp_path: Path, asked: int):
    def work(ranks: Ranks) -> tuple:
        whole, undisturbed = loop_of(tmp_path / "whole", ranks), Walk(ranks)
        metrics = whole.run(undisturbed)
        loop, task = loop_of(tmp_path / "parts", ranks), Walk(ranks)
        task.signal_at = (asked, 5)
        with pytest.raises(Interrupted) as stop:
            loop.run(task)
        ranks.wait()
        again, rest = resumed(tmp_path / "parts", ranks)
        start = again.epoch, again.step
        assert again.run(rest) == metrics
        assert torch.equal(rest.position, undisturbed.position)
        assert task.drawn + rest.drawn == undisturbed.drawn
        return stop.value.exit_status, start, undisturbed.drawn[0], rest.position.item()

    one, other = on_ranks(work, tmp_path)
    assert one[:2] == other[:2] == (143, (1, 2))
    assert one[2] != other[2] and one[3] == other[3]  # own numbers, one walk


def test_a_nan_on_one_rank_stops_all_before_the_step(tmp_path: Path):
    def work(ranks: Ranks) -> tuple:
        loop, task = loop_of(tmp_path / "run", ranks), Walk(ranks)
        task.nan_at = {(1, 5): 1}
        with pytest.raises(FloatingPointError) as error:
            loop.run(task)
        return str(error.value), task.position.item()

    one, other = on_ranks(work, tmp_path)
    assert one == other
    assert one[0].startswith("epoch 2, step 2: step: the loss is nan on rank 1. ")
    assert "on_nonfinite=skip" in one[0]
    newest = CheckpointFolder(tmp_path / "run" / "checkpoints").newest()
    assert newest is not None and newest[1]["step"] == 0 and newest[1]["epoch"] == 1


def test_a_fault_that_passes_is_rolled_back_and_leaves_no_trace(tmp_path: Path):
    def work(ranks: Ranks) -> tuple:
        undisturbed = Walk(ranks)
        loop_of(tmp_path / "whole", ranks).run(undisturbed)
        task = Walk(ranks, FiniteGuard(OnNonFinite.roll_back, ranks=ranks))
        task.nan_at = {(1, 6): 1}
        loop_of(tmp_path / "run", ranks).run(task)
        assert torch.equal(task.position, undisturbed.position)
        lasting = Walk(ranks, FiniteGuard(OnNonFinite.roll_back, ranks=ranks))
        lasting.nan_at = {(1, 6): 2}
        with pytest.raises(FloatingPointError, match="epoch 2, step 3: step: the loss is nan"):
            loop_of(tmp_path / "lasting", ranks).run(lasting)
        return ()

    on_ranks(work, tmp_path)


def test_steps_can_be_left_out_on_all_ranks(tmp_path: Path):
    def work(ranks: Ranks) -> float:
        task = Walk(ranks, FiniteGuard(OnNonFinite.skip, ranks=ranks))
        task.nan_at = {(0, 1): 1, (1, 6): 1}
        loop_of(tmp_path / "run", ranks).run(task)
        assert len(task.drawn) == 12
        return task.position.item()

    one, other = on_ranks(work, tmp_path)
    assert one == other


@pytest.mark.parametrize("what", ["settings", "state"])
def test_ranks_that_differ_are_stopped_at_the_start(tmp_path: Path, what: str):
    def work(ranks: Ranks) -> int:
        fingerprint = str(ranks.rank) if what == "settings" else ""
        loop, task = loop_of(tmp_path / "run", ranks, fingerprint), Walk(ranks)
        if what == "state":
            task.position += ranks.rank
        with pytest.raises(RuntimeError, match="the ranks disagree about the settings, or what"):
            loop.run(task)
        return len(task.drawn)

    assert on_ranks(work, tmp_path) == [0, 0]


def test_ranks_that_come_to_differ_are_stopped_at_the_end_of_the_epoch(tmp_path: Path):
    class Drifting(Walk):
        def evaluate(self, progress: Progress) -> dict[str, float]:
            self.position = self.position + 1e-12 * self.ranks.rank
            return {"score": 0.0}

    def work(ranks: Ranks) -> int:
        task = Drifting(ranks)
        with pytest.raises(RuntimeError, match="the ranks disagree"):
            loop_of(tmp_path / "run", ranks).run(task)
        return len(task.drawn)

    assert on_ranks(work, tmp_path) == [4, 4]
    assert CheckpointFolder(tmp_path / "run" / "checkpoints").newest() is None


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("step", [5, 3], ids=["within an epoch", "after its last step"])
def test_another_number_of_ranks_goes_on_with_a_warning(tmp_path: Path, size: int, step: int):
    def first(ranks: Ranks) -> tuple[float, dict]:
        loop, task = loop_of(tmp_path / "run", ranks), Walk(ranks)
        task.signal_at = (0, step)
        with pytest.raises(Interrupted):
            loop.run(task)
        return task.position.item(), loop.meter.over(ranks).means()

    def second(ranks: Ranks) -> tuple:
        with messages() as said:
            loop, task = resumed(tmp_path / "run", ranks)
        start = task.position.item(), loop.meter.over(ranks).means()
        loop.run(task)
        return start, said, len(task.drawn)

    start, _ = on_ranks(first, tmp_path)
    found = on_ranks(second, tmp_path, size=size, patience=20)
    assert [found_there for found_there, _, _ in found] == [start] * size
    assert [len(said) for _, said, _ in found] == [1] + [0] * (size - 1)
    assert "is of 2 ranks, this run has" in found[0][1][0]
    assert {steps for _, _, steps in found} == {11 - step}


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_lost_rank_ends_the_others_with_words(tmp_path: Path, how: str):
    class Gone(Exception):
        pass

    class Failing(Walk):
        def train_step(self, progress: Progress) -> dict[str, tuple[Tensor, int]]:
            if self.ranks.rank == 1 and progress.global_step == 6:
                raise Gone
            return super().train_step(progress)

    def work(ranks: Ranks) -> str:
        with pytest.raises((RankLost, Gone)) as error:
            loop_of(tmp_path / "run", ranks).run(Failing(ranks))
        if how == "hangs" and ranks.rank == 1:
            time.sleep(4)  # beyond the other's patience
        return str(error.value)

    told, _ = on_ranks(work, tmp_path, patience=1 if how == "hangs" else 60)
    assert told.startswith("epoch 2, step 3 of 4: rank 0 has lost another rank, which died or gave")
    assert "go on with the same command and resume=auto" in told
