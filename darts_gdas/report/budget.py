"""Work beside a run that must not slow it down."""

import contextlib
import time
from collections.abc import Callable, Iterator


class Budget:
    """Permission for repeated work, such that it takes at most a share of the time.

    After a piece of work that took t seconds, the next is due when `t / share` have passed since
    it began. The first is due at once.

    Args:
        share: The share of the time that may be spent, in (0, 1].
        clock: Tells seconds.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {share}")
        self.share = share
        self.clock = clock
        self._due = clock()

    @property
    def is_due(self) -> bool:
        """Whether the work may be done now."""
        return self.clock() >= self._due

    @contextlib.contextmanager
    def spend(self) -> Iterator[None]:
        """Around the work."""
        begin = self.clock()
        yield
        self._due = begin + (self.clock() - begin) / self.share
