"""Measurements divided among ranks: who is free takes the next, and the first keeps them all."""

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, final

from torch.distributed.distributed_c10d import Store, _get_default_store

from darts_gdas.runtime.distributed import FirstRankFailed, Ranks

_EXHAUSTED = 1 << 40
"""Added to the number of what is taken, so that nothing is left to take."""


class RankFailed(RuntimeError):
    """Another rank than the first has failed at its part of the work; says which, and why."""


@final
class Division:
    """Items that each go to one rank, and what is found, on its way to the first rank.

    The numbers go through the store of the process group, one by one, so that a rank which is
    killed takes along only what it had in hand. The store counts what is taken: of cells that
    take unequally long no rank gets all the long ones.

    Args:
        ranks: Who works.
        name: Tells it from every other division of these ranks.
    """

    def __init__(self, ranks: Ranks, name: str) -> None:
        self._ranks, self._name = ranks, name
        self._store: Store | None = None if ranks.size == 1 else _get_default_store()
        self._arrived = 0

    def take(self, count: int) -> Iterator[int]:
        """Positions out of `count` for this rank, one at a time, until none is left for any."""
        if self._store is None:
            yield from range(count)
            return
        while (position := self._store.add(f"{self._name}/taken", 1) - 1) < count:
            yield position

    def exchange(self, found: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """What this rank finds, by position; on the first rank also what others have found so far.

        Args:
            found: Values are what JSON can hold.
        """
        for position, value in found:
            if self._store is not None and not self._ranks.is_first:
                number = self._store.add(f"{self._name}/found", 1)
                self._store.set(f"{self._name}/{number}", json.dumps([position, value]))
            yield position, value
            if self._ranks.is_first:
                yield from self.arrived()

    def arrived(self) -> Iterator[tuple[int, Any]]:
        """On the first rank: what others have found since it last asked."""
        while self._store and self._store.check([key := f"{self._name}/{self._arrived + 1}"]):
            self._arrived += 1
            yield tuple(json.loads(self._store.get(key)))
            self._store.delete_key(key)

    def close(self) -> None:
        """Leave nothing to take, so that all ranks come to an end."""
        if self._store is not None:
            self._store.add(f"{self._name}/taken", _EXHAUSTED)


@contextlib.contextmanager
def divided(ranks: Ranks) -> Iterator[Division]:
    """Work of all ranks side by side; they leave it together, and a failure of one ends them all.

    Raises:
        FirstRankFailed: On the other ranks, where the first one has failed.
        RankFailed: On the other ranks, where another has.
    """
    division = Division(ranks, ranks.from_first(lambda: f"division {uuid.uuid4().hex}"))
    mine: BaseException | None = None
    with ranks.at_work():
        try:
            yield division
        except BaseException as error:
            mine = error
            division.close()
    failed = ranks.gather(mine and f"{type(mine).__name__}: {mine}")
    if mine is not None:
        raise mine
    for rank, told in enumerate(failed):
        if told is not None:
            kind = RankFailed if rank else FirstRankFailed
            raise kind(f"rank {rank} failed: {told}")
