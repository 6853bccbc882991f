"""What happens when a loss or a gradient is no number: before the step, the same on all ranks."""

import logging
import math
from collections.abc import Callable, Mapping
from enum import Enum

import torch
from torch import Tensor

from darts_gdas.runtime.distributed import ALONE, Ranks

logger = logging.getLogger(__name__)


class OnNonFinite(Enum):
    """What to do where a gradient is not finite.

    `stop` ends the run. `skip` leaves out the step, a few times in a row at most. `roll_back` goes
    back to the last checkpoint and tries once more, which helps against faults that pass, not
    against a diverging training.
    """

    stop = "stop"
    skip = "skip"
    roll_back = "roll_back"


class NotFinite(FloatingPointError):
    """A step that must not be taken.

    Attributes:
        retry: Whether to try again from the last checkpoint.
    """

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


class FiniteGuard:
    """Looks at the gradient before every step. One number travels to the host for it.

    Gradients are means over the ranks, so what is not finite on one is not finite on any, and all
    of them decide alike.

    Args:
        policy: What to do.
        limit: Steps in a row that `skip` leaves out.
        ranks: Who steps together.
    """

    def __init__(
        self, policy: OnNonFinite = OnNonFinite.stop, limit: int = 5, ranks: Ranks = ALONE
    ) -> None:
        if limit < 1:
            raise ValueError(f"max_skips must be at least 1, got {limit}")
        self.policy = policy
        self.limit = limit
        self.ranks = ranks
        self.skipped: dict[str, int] = {}  # in a row, of every kind of step

    def passes(
        self,
        step: str,
        norm: Tensor,
        *,
        loss: Callable[[], Tensor],
        gradients: Callable[[], Mapping[str, Tensor | None]],
    ) -> bool:
        """Whether a step is to be taken.

        Args:
            step: Which kind, for the message.
            norm: The norm of the whole gradient.
            loss: Gives this rank's loss; called only when something is wrong.
            gradients: Gives this rank's gradients by name; called only when something is wrong.

        Raises:
            NotFinite: If it is not to be taken, and the run not to go on; on all ranks.
        """
        if math.isfinite(float(norm)):
            self.skipped.pop(step, None)
            return True
        count = self.skipped.get(step, 0) + 1
        told = f"{step}: {self._culprit(loss(), gradients())}"
        if self.policy is OnNonFinite.skip and count <= self.limit:
            self.skipped[step] = count
            if self.ranks.is_first:
                logger.warning("%s; this step is left out (%d in a row)", told, count)
            return False
        if self.policy is OnNonFinite.skip:
            told += f", for the {count}th time in a row"
        raise NotFinite(told, retry=self.policy is OnNonFinite.roll_back)

    def _culprit(self, loss: Tensor, gradients: Mapping[str, Tensor | None]) -> str:
        """In words: which number, and on which rank it began."""
        losses = self.ranks.gather(float(loss.detach()))
        bad = {rank: value for rank, value in enumerate(losses) if not math.isfinite(value)}
        if bad:
            where = ", ".join(f"rank {rank}" for rank in bad)
            value = next(iter(bad.values()))
            return f"the loss is {value}" + (f" on {where}" if self.ranks.size > 1 else "")
        names = [
            name
            for name, gradient in gradients.items()
            if gradient is not None and not bool(torch.isfinite(gradient).all())
        ]
        if not names:
            return "the gradient's norm overflows"
        more = f" and of {len(names) - 1} more" if len(names) > 1 else ""
        return f"the gradient of {names[0]}{more} is not finite"
