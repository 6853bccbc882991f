"""The training loop: epochs, evaluation, checkpoints, interruption, resume. Knows no task."""

import contextlib
import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import torch

from darts_gdas.reasons import reason
from darts_gdas.runtime.checkpoint import CheckpointError, CheckpointFolder, State
from darts_gdas.runtime.compute import random_state, set_random_state
from darts_gdas.runtime.dataset import DataFault
from darts_gdas.runtime.distributed import ALONE, Ranks, digest, lost_ranks
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.finite import NotFinite
from darts_gdas.runtime.meter import Meter
from darts_gdas.runtime.saving import Saving, Writes
from darts_gdas.runtime.signals import Interrupted, StopRequest
from darts_gdas.runtime.state import SCHEMA, UNFIT, check_state
from darts_gdas.runtime.task import Callback, EpochReport, Progress, Task

logger = logging.getLogger(__name__)


class Loop:
    """Runs a task to its end, or to a request to stop.

    The state after every epoch is checkpointed (in longer epochs more often, as `saving` says),
    and the state after the current step when Ctrl-C or SIGTERM arrives, so that the resumed run
    equals the uninterrupted one, bit for bit on a CPU.

    Ranks that train together stop after the same step, whichever of them was asked to; the first
    one writes. After every epoch they compare what they must have in common.

    Args:
        folder: Where checkpoints go; exists.
        kind: Name of the kind of run; a checkpoint of another kind is refused.
        fingerprint: Everything the results depend on, as text, kept in the checkpoints.
        callbacks: Followers, called in order.
        device: Where metrics live.
        ranks: Who trains; callbacks are for the first one.
        saving: When to save, how much to keep, and what to do if it fails.
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
        saving: Saving | None = None,
    ) -> None:
        self.ranks = ranks
        self.saving = saving or Saving()
        self.writes = Writes(self.saving.on_save_error)
        self.checkpoints = CheckpointFolder(folder.checkpoints, keep=self.saving.keep_checkpoints)
        self.kind = kind
        self.fingerprint = fingerprint
        self.callbacks = callbacks
        self.device = device
        self.meter = Meter()
        self.epoch, self.step = 0, 0
        self.best: dict[str, Any] = {}
        self.last: dict[str, float] = {}
        self.seconds = 0.0
        self._failed: set[int] = set()  # steps after which the run was rolled back
        self.is_stopped = False

    def run(self, task: Task) -> dict[str, float]:
        """Train to the last epoch, or until the task is finished; return the last metrics.

        Raises:
            Interrupted: After a request to stop, when the state is saved.
            FloatingPointError: When a gradient or a metric is not finite; the step was not taken.
            RankLost: When another rank gives no answer.
            RuntimeError: When the ranks have come to differ.
            WriteError: When a file cannot be written, unless that is to be warned about alone.
            DataFault: When images cannot be read; a process by itself has saved its state.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._leave)
            for callback in self.callbacks[::-1]:
                stack.callback(self._stop, callback)
            with lost_ranks(self.ranks, lambda: self._where(task)), StopRequest() as request:
                self._compare(task)
                for callback in self.callbacks:
                    callback.on_start(self._progress(task))
                while self.epoch < task.num_epochs and not task.is_finished:
                    try:
                        self._run_epoch(task, request)
                    except NotFinite as error:
                        self._roll_back(task, error)
                    except DataFault as error:
                        raise self._without_data(task, error) from None
                if signum := self.ranks.largest(request.signum or 0):  # since the last step
                    raise self._interrupted(request, signum, f"after the last epoch, {self.epoch}")
        return self.last

    def _leave(self) -> None:
        if self.is_stopped:  # the first rank's launcher may just have requeued the job, and
            self.ranks.wait()  # might not have, had another rank been gone before

    def _stop(self, callback: Callback) -> None:
        with self.writes.attempt(type(callback).__name__):
            callback.on_stop()

    def load(self, task: Task, state: State) -> None:
        """Continue from a checkpoint's state.

        Raises:
            CheckpointError: If it is of another kind of run, of another version, or does not fit.
        """
        check_state(state, self.kind)
        try:
            task.load_state_dict(state["task"])
            self._load_own(state["meter"], state["random"])
        except UNFIT as error:
            raise CheckpointError(
                f"the checkpoint does not fit this run: {reason(error)}"
            ) from None
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.best, self.last = dict(state["best"]), dict(state["last"])
        if self.ranks.is_first and self.step == 0 and self.best.get("epoch") == self.epoch - 1:
            # A crash may have come between the best epoch's checkpoint and the note of it.
            self.checkpoints.mark_best(self._progress(task).global_step)

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
            mine = generators[0] if self.ranks.is_first else None
        self.meter.load_state_dicts(meters, self.device)
        if mine is None:
            self.meter.clear()  # the first has the sums of all
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
                is_saved = self._save(task, is_best=False)
                raise self._interrupted(
                    request,
                    signum,
                    f"in epoch {self.epoch + 1} after step {self.step} "
                    f"of {task.steps_per_epoch}; the state "
                    + ("is saved" if is_saved else "could not be saved, earlier checkpoints stand"),
                )
            if self.saving.is_due(self.step, task.steps_per_epoch):
                self._finite(self.meter.over(self.ranks).means())
                self._save(task, is_best=False, since=start)
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
            with self.writes.attempt(type(callback).__name__):
                callback.on_epoch_end(report)
        self.epoch, self.step, self.meter = self.epoch + 1, 0, Meter()
        self._save(task, is_best=is_best)

    def _interrupted(self, request: StopRequest, signum: int, told: str) -> Interrupted:
        self.ranks.wait()  # whoever starts ranks may end all of them with the first
        request.signum = signum  # of whichever rank; each one's launcher is to know
        self.is_stopped = True
        return Interrupted(signum, f"stopped {told}")

    def _where(self, task: Task) -> str:
        if self.step >= task.steps_per_epoch:
            return f"epoch {self.epoch + 1}, after its last step"
        return f"epoch {self.epoch + 1}, step {self.step + 1} of {task.steps_per_epoch}"

    def _roll_back(self, task: Task, error: NotFinite) -> None:
        """Go on from the last checkpoint; once for every step that fails."""
        position = self._progress(task).global_step
        told = f"epoch {self.epoch + 1}, step {self.step + 1}: {error}"
        found = None
        if error.retry and position not in self._failed:
            found = self.ranks.from_first(self.checkpoints.newest)
        if found is None:
            raise FloatingPointError(
                f"{told}. The step was not taken and nothing of it saved; earlier checkpoints "
                "stand. Lower optimizer.lr, or check the data; precision=fp32 has the widest "
                "range; on_nonfinite=skip leaves out such steps"
            ) from None
        self._failed.add(position)
        path, state = found
        self.load(task, state)
        if self.ranks.is_first:
            logger.warning("%s; going on from %s", told, path.name)

    def _without_data(self, task: Task, error: DataFault) -> DataFault:
        """Save the state after the last step, before which no batch of this one was there.

        Ranks that have their images are in the middle of a step: theirs is not the same.
        """
        is_saved = self.ranks.size == 1 and self._save(task, is_best=False)
        stands = "the state is saved" if is_saved else "earlier checkpoints stand"
        again = "go on with the same command and resume=auto"
        return DataFault(f"{self._where(task)}: {error}; {stands}, {again}")

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

    def _save(self, task: Task, *, is_best: bool, since: float | None = None) -> bool:
        """Whether the state is saved; `since` is when seconds began that are not counted yet."""
        finite = [torch.isfinite(tensor).all() for tensor in task.shared()]
        if not bool(torch.stack(finite).all()):  # one transfer to the host
            raise FloatingPointError(
                f"after step {self.step} of epoch {self.epoch + 1} what is trained is not finite; "
                "this state was not saved, earlier checkpoints stand. Lower optimizer.lr"
            )
        own = self.ranks.gather((self.meter.state_dict(), random_state()))
        if not self.ranks.is_first:
            return True
        uncounted = 0.0 if since is None else time.monotonic() - since
        state = {
            "schema": SCHEMA,
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds + uncounted,
            "best": self.best,
            "last": self.last,
            "ranks": self.ranks.size,
            "meter": [meter for meter, _ in own],
            "random": [generators for _, generators in own],
            "task": task.state_dict(),
        }
        num_failed = self.writes.num_failed
        with self.writes.attempt("a checkpoint"):
            self.checkpoints.save(self._progress(task).global_step, state, is_best=is_best)
        return self.writes.num_failed == num_failed
