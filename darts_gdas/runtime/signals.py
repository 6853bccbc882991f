"""Stopping on request: Ctrl-C and SIGTERM become a flag that the loop reads between steps."""

import logging
import signal
from types import FrameType, TracebackType

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """The run was asked to stop and has saved its state.

    Attributes:
        exit_status: 128 + the signal's number, as shells report it.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_status = 128 + signum


class StopRequest:
    """While entered, the first signal sets `signum`, a second changes nothing, a third kills.

    The repeat is ignored so that an impatient second Ctrl-C does not break the save that the
    first one asked for.
    """

    def __init__(self) -> None:
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
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            self.signum = signum
            logger.warning("stopping after this step; the state will be saved")
        elif self._count > 2:
            raise KeyboardInterrupt
