"""The training loop: epochs, evaluation, checkpoints, interruption, resume. Knows no task."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from darts_gdas.runtime.checkpoint import CheckpointError, CheckpointFolder, State
from darts_gdas.runtime.compute import random_state, set_random_state
from darts_gdas.runtime.distributed import ALONE, Ranks, digest
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.meter import Meter
from darts_gdas.runtime.signals import Interrupted, StopRequest

logger = logging.getLogger(__name__)

SCHEMA = 2
"""Version of the checkpoints' layout."""

STATE_KEYS = {
    "schema", "kind", "fingerprint", "epoch", "step", "seconds", "best", "last", "meter", "random",
    "task", "ranks",
}  # fmt: skip
"""What a checkpoint holds."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands at the beginning of a step.

    Attributes:
        epoch: Epochs completed.
        num_epochs: Epochs of the whole run.
        step: Steps completed in this epoch.
        steps_per_epoch: Steps of each epoch.
    """

    epoch: int
    num_epochs: int
    step: int
    steps_per_epoch: int

    @property
    def global_step(self) -> int:
        """Steps completed in the run."""
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def annealed(self) -> float:
        """Share of an annealing by epochs: 0 in the first, 1 in the last; 0 if there is one."""
        return self.epoch / max(self.num_epochs - 1, 1)


class Task(Protocol):
    """What is trained. A task owns its data, modules and optimisers."""

    num_epochs: int
    steps_per_epoch: int
    selection_metric: str
    """The metric of `evaluate` that decides which epoch is the best; larger is better."""

    @property
    def is_finished(self) -> bool:
        """Whether the task ends before its last epoch; asked between epochs."""
        ...

    def train_step(self, progress: Progress) -> Mapping[str, tuple[Tensor, int]]:
        """One step; sums of metrics over samples, with the number of samples."""
        ...

    def evaluate(self, progress: Progress) -> dict[str, float]:
        """Metrics of the state after an epoch, `progress` standing in that epoch."""
        ...

    def shared(self) -> Sequence[Tensor]:
        """What ranks that train together must have in common; compared after every epoch."""
        ...

    def state_dict(self) -> State:
        """Everything that the next step depends on, except torch's global generators."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Inverse of `state_dict`."""
        ...


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What is known at the end of an epoch.

    Attributes:
        epoch: Number of the epoch, from 0.
        num_epochs: Epochs of the run.
        step: Steps completed in the run.
        metrics: Means over the epoch and the evaluation after it.
        is_best: The selection metric is higher than ever before.
        seconds: Wall time of this epoch.
    """

    epoch: int
    num_epochs: int
    step: int
    metrics: dict[str, float]
    is_best: bool
    seconds: float


class Callback:
    """Something that follows a run. Every hook does nothing unless a callback fills it in."""

    def on_start(self, progress: Progress) -> None:
        """Before the first step, new or resumed."""

    def on_step(self, progress: Progress, meter: Meter) -> None:
        """After each step; `progress` counts it."""

    def on_epoch_end(self, report: EpochReport) -> None:
        """After evaluation, before the checkpoint."""

    def on_stop(self) -> None:
        """However the run ends: release what is held."""


class Loop:
    """Runs a task to its end, or to a request to stop.

    The state after every epoch is checkpointed, and the state after the current step when Ctrl-C
    or SIGTERM arrives, so that the resumed run equals the uninterrupted one, bit for bit on a CPU.

    Ranks that train together stop after the same step, whichever of them was asked to; the first
    one writes. After every epoch they compare what they must have in common.

    Args:
        folder: Where checkpoints go; exists.
        kind: Name of the kind of run; a checkpoint of another kind is refused.
        fingerprint: Everything the results depend on, as text, kept in the checkpoints.
        callbacks: Followers, called in order.
        device: Where metrics live.
        ranks: Who trains; callbacks are for the first one.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        kind: str,
        fingerprint: str,
        callbacks: Sequence[Callback],
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.checkpoints = CheckpointFolder(folder.checkpoints)
        self.kind = kind
        self.fingerprint = fingerprint
        self.callbacks = callbacks
        self.device = device
        self.meter = Meter()
        self.epoch, self.step = 0, 0
        self.best: dict[str, Any] = {}
        self.last: dict[str, float] = {}
        self.seconds = 0.0
        self.is_stopped = False

    def run(self, task: Task) -> dict[str, float]:
        """Train to the last epoch, or until the task is finished; return the last metrics.

        Raises:
            Interrupted: After a request to stop, when the state is saved.
            FloatingPointError: When a metric is no longer finite; nothing of that epoch is saved.
            RuntimeError: When the ranks have come to differ.
        """
        try:
            with StopRequest() as request:
                self._compare(task)
                for callback in self.callbacks:
                    callback.on_start(self._progress(task))
                while self.epoch < task.num_epochs and not task.is_finished:
                    self._run_epoch(task, request)
        finally:
            for callback in self.callbacks:
                callback.on_stop()
            if self.is_stopped:  # the first rank's launcher may just have requeued the job, and
                self.ranks.wait()  # might not have, had another rank been gone before
        return self.last

    def load(self, task: Task, state: State) -> None:
        """Continue from a checkpoint's state.

        Raises:
            CheckpointError: If it is of another kind of run, of another version, or does not fit.
        """
        check_state(state, self.kind)
        try:
            task.load_state_dict(state["task"])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"the checkpoint does not fit this run: {reason}") from None
        self._load_own(state["meter"], state["random"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.best, self.last = dict(state["best"]), dict(state["last"])

    def _load_own(self, meters: Sequence[State], generators: Sequence[State]) -> None:
        """What every rank has of its own: one entry for each rank that saved."""
        rank, size = self.ranks.rank, self.ranks.size
        if len(meters) == size:
            meters, mine = [meters[rank]], generators[rank]
        else:
            if self.ranks.is_first:
                logger.warning(
                    "the checkpoint is of %d ranks, this run has %d: it goes on from the same "
                    "state, but not bit for bit as it would have",
                    len(meters),
                    size,
                )
            # Other ranks begin with numbers of their own, so that no two draw the same.
            meters, mine = (meters, generators[0]) if self.ranks.is_first else ([], None)
        self.meter.load_state_dicts(meters, self.device)
        if mine is not None:
            set_random_state(mine)

    def _compare(self, task: Task) -> None:
        if self.ranks.size > 1:
            found = digest(task.shared(), self.fingerprint)
            self.ranks.check_agreement("the settings, or what they train", found)

    def _run_epoch(self, task: Task, request: StopRequest) -> None:
        start = time.monotonic()
        while self.step < task.steps_per_epoch:
            self.meter.add(task.train_step(self._progress(task)))
            self.step += 1
            for callback in self.callbacks:
                callback.on_step(self._progress(task), self.meter)
            signum = self.ranks.largest(request.signum or 0)
            if signum:
                self._finite(self.meter.over(self.ranks).means())
                self.seconds += time.monotonic() - start
                self._save(task, is_best=False)
                self.ranks.wait()  # whoever starts ranks may end all of them with the first
                request.signum = signum  # of whichever rank; each one's launcher is to know
                self.is_stopped = True
                raise Interrupted(
                    signum,
                    f"stopped in epoch {self.epoch + 1} after step {self.step} "
                    f"of {task.steps_per_epoch}; the state is saved",
                )
        means = self.meter.over(self.ranks).means()
        metrics = self._finite(means | task.evaluate(self._progress(task)))
        self._compare(task)
        seconds = time.monotonic() - start
        self.seconds += seconds
        value = metrics[task.selection_metric]
        is_best = value > self.best.get("value", -math.inf)
        if is_best:
            self.best |= {"value": value, "epoch": self.epoch}
        self.last = metrics
        step = self._progress(task).global_step
        report = EpochReport(self.epoch, task.num_epochs, step, metrics, is_best, seconds)
        for callback in self.callbacks:
            callback.on_epoch_end(report)
        self.epoch, self.step, self.meter = self.epoch + 1, 0, Meter()
        self._save(task, is_best=is_best)

    def _finite(self, metrics: dict[str, float]) -> dict[str, float]:
        bad = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if bad:
            raise FloatingPointError(
                f"training diverged in epoch {self.epoch + 1}: {bad}; lower optimizer.lr or "
                "check the data. Nothing of this epoch was saved; earlier checkpoints stand"
            )
        return metrics

    def _progress(self, task: Task) -> Progress:
        return Progress(self.epoch, task.num_epochs, self.step, task.steps_per_epoch)

    def _save(self, task: Task, *, is_best: bool) -> None:
        own = self.ranks.gather((self.meter.state_dict(), random_state()))
        if not self.ranks.is_first:
            return
        state = {
            "schema": SCHEMA,
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "last": self.last,
            "ranks": self.ranks.size,
            "meter": [meter for meter, _ in own],
            "random": [generators for _, generators in own],
            "task": task.state_dict(),
        }
        self.checkpoints.save(self._progress(task).global_step, state, is_best=is_best)


def check_state(state: State, kind: str) -> None:
    """Raise a `CheckpointError` unless the state is of this kind of run and this version."""
    if state.get("schema") != SCHEMA:
        raise CheckpointError(
            f"the checkpoint has schema {state.get('schema')!r}, this version reads {SCHEMA}"
        )
    if state.get("kind") != kind:
        raise CheckpointError(f"the checkpoint is of a {state.get('kind')}, this run is a {kind}")
    missing = STATE_KEYS - set(state)
    if missing:
        raise CheckpointError(f"the checkpoint lacks {sorted(missing)}")
