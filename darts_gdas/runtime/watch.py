"""Ranks that wait for one that works: signs of life, through the store of the process group."""

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

from torch.distributed.distributed_c10d import Store, _get_default_store

LONGEST = 10.0
"""Seconds between two signs of life, or a fifth of the patience."""


class RankLost(RuntimeError):
    """Another rank has died, or gave no answer in time."""


class Watch:
    """Tells a rank that works from one that is lost, however long the work takes.

    A message that does not come in time ends a training step, and rightly so. Work of one rank
    that others wait for has no such time: as long as its process lives, a thread of it says so.

    Args:
        patience: Seconds without a sign of life after which a rank counts as lost.
    """

    def __init__(self, patience: float = 1800.0) -> None:
        self.patience = patience
        self.every = min(patience / 5, LONGEST)
        self._depth, self._beats, self._meetings = 0, 0, 0
        self._store: Store | None = None

    @contextlib.contextmanager
    def alive(self, rank: int) -> Iterator[None]:
        """Within it, this rank gives signs of life; may be nested."""
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
        with contextlib.suppress(RuntimeError):  # without a store there is nobody to tell
            while not ended.wait(self.every):
                self._beats += 1
                store.set(f"beat/{rank}", str(self._beats))

    def meet(self, rank: int, size: int) -> None:
        """Return when all ranks have come here.

        Raises:
            RankLost: If one has not, and has given no sign of life for as long as the patience.
        """
        self._meetings += 1
        store, number = _get_default_store(), self._meetings
        store.set(f"met/{number}/{rank}", "")
        seen = {other: ("", time.monotonic()) for other in range(size) if other != rank}
        while seen:
            with contextlib.suppress(RuntimeError):  # not yet
                store.wait([f"met/{number}/{min(seen)}"], timedelta(seconds=self.every))
            for other, (last, since) in list(seen.items()):
                beat = _read(store, f"beat/{other}")
                if store.check([f"met/{number}/{other}"]):
                    del seen[other]
                elif beat != last:
                    seen[other] = beat, time.monotonic()
                elif time.monotonic() - since > self.patience:
                    raise RankLost(
                        f"rank {rank} waited for rank {other}, which gave no sign of life for "
                        f"{self.patience:g} s"
                    )


def _read(store: Store, key: str) -> str:
    return store.get(key).decode() if store.check([key]) else ""
