"""Ranks that wait for one that works: signs of life, through the store of the process group."""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from torch.distributed.distributed_c10d import Store, _get_default_store

LONGEST = 1.0
"""Seconds between two signs of life, or a fifth of the patience."""

LEAVING = 5.0
"""The patience of a rank that was asked to stop: whoever asked may soon kill it."""

SOON = 0.5
"""Seconds within which a rank that waits is heard when it is asked to stop."""

SHORTEST = 0.001
"""Seconds of the first pause of a rank that waits; each is twice the one before, up to `SOON`."""

IDLE = 0.02
"""Share of a processor's time below which a process does nothing: waiting costs some, too."""


def check_patience(minutes: float) -> None:
    """Raise a `ValueError` unless a rank can wait so long for another."""
    if not 0 < minutes < math.inf:
        raise ValueError(f"rank_timeout_minutes must be positive, got {minutes}")


class RankLost(RuntimeError):
    """Another rank has died, or gave no answer in time."""


class Watch:
    """Tells a rank that works from one that is lost, however long the work takes.

    A message that does not come in time ends a training step, and rightly so. Work of one rank
    that others wait for has no such time: a thread of its process says so as long as the process
    and its children compute, or the work itself gives signs. One that hangs does neither.

    Args:
        patience: Seconds without a sign of life after which a rank counts as lost.

    Attributes:
        request: The signal that has asked this rank to stop, or 0; heard while it waits.
    """

    def __init__(self, patience: float = 1800.0) -> None:
        self.patience = patience
        self.request: Callable[[], int] | None = None
        self.every = min(patience / 5, LONGEST)
        self._depth, self._beats, self._meetings, self._signs = 0, 0, 0, 0
        self._store: Store | None = None
        self._asks_again = 0.0

    @property
    def is_at_work(self) -> bool:
        """Whether this rank works by itself, so that a message to all would find nobody."""
        return self._depth > 0

    @contextlib.contextmanager
    def alive(self, rank: int) -> Iterator[None]:
        """Within it, this rank gives signs of life as long as it works; may be nested."""
        self._depth += 1
        if self._depth > 1:
            ended = thread = None
        else:
            self._store = self._store or _get_default_store().clone()  # the thread's own
            ended = threading.Event()
            thread = threading.Thread(target=self._beat, args=(rank, self._store, ended))
            thread.start()
        try:
            yield
        finally:
            self._depth -= 1
            if ended is not None and thread is not None:
                ended.set()
                thread.join()

    def _beat(self, rank: int, store: Store, ended: threading.Event) -> None:
        signs, begin, computed = self._signs, time.monotonic(), _computed()
        with contextlib.suppress(RuntimeError):  # without a store there is nobody to tell
            while not ended.wait(self.every):
                since = time.monotonic() - begin
                if self._signs == signs and _computed() - computed < IDLE * since:
                    continue
                signs, begin, computed = self._signs, time.monotonic(), _computed()
                self._beats += 1
                store.set(f"beat/{rank}", str(self._beats))

    def sign(self) -> None:
        """Say that this rank's work goes on, where it may wait for others rather than compute."""
        self._signs += 1

    def asked(self) -> int:
        """The signal by which a rank that waits for this one was asked to stop; 0 if none was.

        To be called by the rank that works, as often as it likes.
        """
        now = time.monotonic()
        if self._depth == 0 or now < self._asks_again:
            return 0
        self._asks_again = now + SOON
        return int(_read(_get_default_store(), f"asked/{self._meetings + 1}") or 0)

    def meet(self, rank: int, size: int) -> None:
        """Return when all ranks have come here; whoever works is told of a request to stop.

        Args:
            rank: This one.
            size: How many there are.

        Raises:
            RankLost: If one has not, and has given no sign of life for as long as the patience.
        """
        self._meetings += 1
        store, number, signum = _get_default_store(), self._meetings, 0
        store.set(f"met/{number}/{rank}", "")
        seen = {other: ("", time.monotonic()) for other in range(size) if other != rank}
        pause = SHORTEST
        while seen:
            if not signum and self.request is not None and (signum := self.request()):
                store.set(f"asked/{number}", str(signum))
            patience = min(self.patience, LEAVING) if signum else self.patience
            if not store.check([f"met/{number}/{other}" for other in seen]):
                time.sleep(pause)  # the store's own waiting logs every time that it is over
                pause = min(2 * pause, self.every, SOON)
            for other, (last, since) in list(seen.items()):
                beat = _read(store, f"beat/{other}")
                if store.check([f"met/{number}/{other}"]):
                    del seen[other]
                elif beat != last:
                    seen[other] = beat, time.monotonic()
                elif time.monotonic() - since > patience:
                    raise RankLost(
                        f"rank {rank} waited for rank {other}, which gave no sign of life for "
                        f"{patience:g} s"
                    )


def _read(store: Store, key: str) -> str:
    return store.get(key).decode() if store.check([key]) else ""


def _computed() -> float:
    """Seconds of processor time of this process and its children, less the calling thread's."""
    ended = os.times()
    seconds = time.process_time() - time.thread_time()
    seconds += ended.children_user + ended.children_system
    ticks = 0
    with contextlib.suppress(OSError):  # a child may end meanwhile
        for children in Path("/proc/self/task").glob("*/children"):
            for child in children.read_text().split():
                stat = Path("/proc", child, "stat").read_text().rpartition(")")[2].split()
                ticks += int(stat[11]) + int(stat[12])  # utime, stime of proc(5)
    return seconds + ticks / os.sysconf("SC_CLK_TCK")
