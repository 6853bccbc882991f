"""When a run saves its state, how much it keeps, and what it does if it cannot."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from darts_gdas.runtime.files import WriteError

logger = logging.getLogger(__name__)


class OnSaveError(Enum):
    """`stop` ends the run where a file of it cannot be written, `warn` goes on without."""

    stop = "stop"
    warn = "warn"


@dataclass
class Saving:
    """Settings of a run's files. None of them changes what is computed.

    Attributes:
        keep_checkpoints: How many of the newest checkpoints stay, beside the best epoch's.
        checkpoint_every: Steps between checkpoints within an epoch, for epochs that take long;
            with 0 there is one after each epoch alone.
        on_save_error: What becomes of a run whose files cannot be written, on a full disc say.
    """

    keep_checkpoints: int = 2
    checkpoint_every: int = 0
    on_save_error: OnSaveError = OnSaveError.stop

    def __post_init__(self) -> None:
        if self.keep_checkpoints < 1:
            raise ValueError(
                f"keep_checkpoints must be at least 1, got {self.keep_checkpoints}: a run goes on "
                "from the newest; 2 leave one more should that be damaged"
            )
        if self.checkpoint_every < 0:
            raise ValueError(
                f"checkpoint_every must be at least 0 steps (0: after each epoch alone), got "
                f"{self.checkpoint_every}"
            )

    def is_due(self, step: int, steps_per_epoch: int) -> bool:
        """Whether there is a checkpoint after this many steps of an epoch, which goes on."""
        every = self.checkpoint_every
        return every > 0 and step % every == 0 and step < steps_per_epoch


class Writes:
    """What a run writes along the way: an error ends the run, or is warned about and counted.

    Args:
        policy: Which of the two.
    """

    def __init__(self, policy: OnSaveError) -> None:
        self.policy = policy
        self.num_failed = 0
        self.last_error = ""

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Around the writing of one thing.

        Args:
            what: In a word or two.

        Raises:
            WriteError: If it fails, and the policy is to stop.
        """
        try:
            yield
        except OSError as error:
            if self.policy is OnSaveError.stop:
                raise WriteError(
                    f"{what}: {error}; earlier checkpoints stand. Make room and go on with "
                    "the same command and resume=auto, or pass on_save_error=warn to go on without"
                ) from None
            self.num_failed += 1
            self.last_error = f"{what}: {error}"
            logger.warning("%s; going on without (on_save_error=warn)", self.last_error)

    def facts(self) -> dict[str, str]:
        """For the closing words of a run: nothing if everything was written."""
        if not self.num_failed:
            return {}
        return {"not saved": f"{self.num_failed} times, the last {self.last_error}"}
