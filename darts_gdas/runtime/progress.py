"""Where a run stands."""

from dataclasses import dataclass


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
