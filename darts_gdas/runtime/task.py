"""What the loop runs, and who follows it. Knows no task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from darts_gdas.runtime.checkpoint import State
from darts_gdas.runtime.meter import Meter


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
