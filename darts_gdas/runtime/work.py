"""Long work outside the epochs: it says how far it is, and ends when it is asked to."""

from collections.abc import Callable
from typing import TypeVar

from darts_gdas.runtime.distributed import Ranks, is_lost
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
        ranks.watch.request = self._asked

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Show that `done` of `total` is done in a phase; then as `heed`."""
        if self.ranks.is_first:
            self._line(phase, done, total)
        self.heed()

    def heed(self) -> None:
        """Go on, unless a rank was asked to stop.

        Raises:
            Interrupted: On all ranks; within `alone` and `together` on one, and then on the others.
        """
        watch = self.ranks.watch
        watch.sign()
        if watch.is_at_work:
            signum = self._asked() or watch.asked()  # asked: by one of those who wait
        else:
            signum = self.ranks.largest(self._asked())
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
            try:
                return make(), 0
            except Interrupted as stop:
                return None, stop.signum

        value, signum = self.ranks.from_first(outcome)
        if signum:
            raise self._interrupted(signum)
        return value  # type: ignore[return-value]

    def together(self, make: Callable[[], Value]) -> Value:
        """What each rank makes with the others.

        Args:
            make: Fails on all ranks where it fails on one, as within `divided`.

        Raises:
            Interrupted: On all ranks, if `make` heeds a request on one.
        """
        try:
            value = make()
        except Exception as error:
            if isinstance(error, RuntimeError) and is_lost(error):
                raise
            signum = error.signum if isinstance(error, Interrupted) else 0
            if signum := self.ranks.largest(signum):
                raise self._interrupted(signum) from None
            raise
        if signum := self.ranks.largest(0):
            raise self._interrupted(signum)
        return value

    def _interrupted(self, signum: int) -> Interrupted:
        self._request.signum = signum  # of whichever rank; each one's launcher is to know
        return Interrupted(signum, self._told())
