"""Long work outside the epochs: it says how far it is, and ends when it is asked to."""

from collections.abc import Callable
from typing import TypeVar

from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.signals import Interrupted, StopRequest
from darts_gdas.runtime.terminal import PhaseLine

Value = TypeVar("Value")


class Work:
    """Work that may take hours: a warm start, a selection, a ranking.

    Args:
        line: Where progress is shown.
        request: The requests to stop that this process has got.
        ranks: Who works; all of them call what is here in the same order.
        told: What is kept, in words, asked for when it ends before its time.
    """

    def __init__(
        self, line: PhaseLine, request: StopRequest, ranks: Ranks, told: Callable[[], str]
    ) -> None:
        self.ranks = ranks
        self._line, self._request, self._told = line, request, told
        self._among = ranks

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Show that `done` of `total` is done in a phase; then as `heed`."""
        if self.ranks.is_first:
            self._line(phase, done, total)
        self.heed()

    def heed(self) -> None:
        """Go on, unless a rank was asked to stop.

        Raises:
            Interrupted: On all ranks; within `alone`, on the first one, and then on the others.
        """
        watch = self.ranks.watch
        watch.sign()
        signum = self._among.largest(self._asked())
        if self._among is not self.ranks:
            signum = signum or watch.asked()  # by one of those who wait
        if signum:
            raise self._interrupted(signum)

    def _asked(self) -> int:
        return self._request.signum or 0

    def alone(self, make: Callable[[], Value]) -> Value:
        """What the first rank makes, on all ranks.

        Raises:
            Interrupted: On all ranks, if `make` heeds a request, whichever rank has got it.
        """

        def outcome() -> tuple[Value | None, int]:
            self._among = ALONE
            try:
                return make(), 0
            except Interrupted as stop:
                return None, stop.signum
            finally:
                self._among = self.ranks

        value, signum = self.ranks.from_first(outcome, self._asked)
        if signum:
            raise self._interrupted(signum)
        return value  # type: ignore[return-value]

    def _interrupted(self, signum: int) -> Interrupted:
        self._request.signum = signum  # of whichever rank; each one's launcher is to know
        return Interrupted(signum, self._told())
