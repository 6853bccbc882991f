"""Stopping on request: Ctrl-C and schedulers' signals become a flag that the loop reads."""

import logging
import signal
from types import FrameType, TracebackType

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C; preemption and `scancel`; what schedulers send ahead of a time limit."""


class Interrupted(Exception):
    """The run was asked to stop and has saved its state.

    Attributes:
        signum: The signal's number.
        exit_status: 128 + that number, as shells report it.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_status = 128 + signum


class StopRequest:
    """While entered, the first signal sets `signum`, a second changes nothing, a third kills.

    The repeat is ignored so that an impatient second Ctrl-C does not break the save that the
    first one asked for.

    Whoever handled the signal before, such as a launcher that requeues its job, is called on
    leaving: after the save.

    Args:
        told: What is said of the first signal.
    """

    def __init__(self, told: str = "stopping after this step; the state will be saved") -> None:
        self.told = told
        self.signum: int | None = None
        self._count = 0
        self._previous = {}

    def __enter__(self) -> "StopRequest":
        for signum in SIGNALS:
            self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for signum in SIGNALS[::-1]:  # Ctrl-C last: from there on it can cut this short
            signal.signal(signum, self._previous[signum])
        if self.signum is not None:
            earlier = self._previous[self.signum]
            if callable(earlier) and earlier is not signal.default_int_handler:
                earlier(self.signum, None)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            self.signum = signum
            logger.warning(self.told)
        elif self._count > 2:
            raise KeyboardInterrupt
