"""Several processes that train one model: who they are, and how they come to the same numbers."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from darts_gdas.runtime.watch import RankLost, Watch

Value = TypeVar("Value")

_copy = torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage]


class FirstRankFailed(RuntimeError):
    """What the first rank was to make for all has failed there, and was reported there."""


def is_lost(error: RuntimeError) -> bool:
    """Whether an error says that another rank is gone; gloo has no type for it."""
    return isinstance(error, (dist.DistError, RankLost)) or "gloo" in str(error).lower()


@contextlib.contextmanager
def lost_ranks(ranks: "Ranks", where: Callable[[], str]) -> Iterator[None]:
    """Say where another rank was lost.

    Args:
        ranks: Who runs.
        where: What this rank was doing, asked for when it happens.

    Raises:
        RankLost: In place of whatever says so.
    """
    try:
        yield
    except RuntimeError as error:
        if ranks.size == 1 or not is_lost(error) or isinstance(error.__cause__, RuntimeError):
            raise  # no loss, or told already
        raise RankLost(
            f"{where()}: rank {ranks.rank} has lost another rank, which died or gave no answer in "
            "time (rank_timeout_minutes). Checkpoints and measurements stand; go on with "
            "the same command and resume=auto. " + " ".join(str(error).split())
        ) from error


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a run, as one of them sees it. The default is a process by itself.

    Whatever all of them call, they call in the same order: every method below waits for the
    others, except where there are none.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
        local_rank: Number of this process on its machine: which GPU is its own.
        watch: Tells a rank that works from one that is lost.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    watch: Watch = field(default_factory=Watch, compare=False, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the ranks: one call for all of a number format.

        Every rank is left with the same bits.
        """
        if self.size > 1:
            self._reduce_(tensors, divide=True)

    def add_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the ranks."""
        if self.size > 1:
            self._reduce_(tensors, divide=False)

    def _reduce_(self, tensors: Sequence[Tensor], *, divide: bool) -> None:
        kinds = sorted(tensors, key=_kind)
        for _, group in groupby(kinds, key=_kind):
            members = [tensor.detach() for tensor in group]
            flat = torch.cat([tensor.reshape(-1) for tensor in members])
            dist.all_reduce(flat)
            if divide:
                flat /= self.size
            sizes = [tensor.numel() for tensor in members]
            pieces = zip(flat.split(sizes), members, strict=True)
            _copy(members, [piece.view(tensor.shape) for piece, tensor in pieces])

    def largest(self, number: int) -> int:
        """The largest of all ranks' numbers."""
        if self.size == 1:
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def gather(self, value: Value) -> list[Value]:
        """All ranks' values, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Within it a rank takes as long as it needs; leaving it, it waits for the others.

        They give up on a rank that hangs or is gone, not on one that works.
        """
        if self.size == 1:
            yield
            return
        with self.watch.alive(self.rank):
            try:
                yield
            finally:
                self.watch.meet(self.rank, self.size)

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What the first rank makes, on all ranks; only that one calls `make`, which may take long.

        Raises:
            FirstRankFailed: On the other ranks, where `make` failed on the first.
        """
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        mine: BaseException | None = None
        with self.at_work():
            try:
                if self.is_first:
                    box[0] = make()
            except BaseException as error:
                mine, box[1] = error, f"{type(error).__name__}: {error}"
        dist.broadcast_object_list(box, src=0)
        if mine is not None:
            raise mine
        if box[1] is not None:
            raise FirstRankFailed(f"rank 0 failed: {box[1]}")
        return box[0]

    def wait(self) -> None:
        """Return when all ranks have come here."""
        self.largest(0)

    def check_agreement(self, what: str, digest: str) -> None:
        """Compare a digest over the ranks.

        Raises:
            RuntimeError: On all ranks, where it is not the same everywhere.
        """
        found = self.gather(digest)
        if len(set(found)) > 1:
            raise RuntimeError(
                f"the ranks disagree about {what}: "
                + ", ".join(f"rank {rank} has {one[:12]}" for rank, one in enumerate(found))
                + ". They must be started with the same command, data and versions"
            )


ALONE = Ranks()
"""A process that trains by itself."""


def _kind(tensor: Tensor) -> tuple[str, str]:
    return str(tensor.dtype), str(tensor.device)


@contextlib.contextmanager
def same_fate(ranks: Ranks, *kinds: type[Exception]) -> Iterator[None]:
    """Within it, an error of these kinds on one rank becomes one on all ranks.

    What fails on the first rank in `from_first` is known to all already.

    Raises:
        Exception: This rank's own error.
        ValueError: The error of the first rank that has one, where this one has none.
    """
    mine: Exception | None = None
    with ranks.at_work():
        try:
            yield
        except (*kinds, FirstRankFailed) as error:
            mine = error
    found = ranks.gather(mine and str(mine))
    if mine is not None:
        raise mine
    for rank, text in enumerate(found):
        if text is not None:
            raise ValueError(f"on rank {rank}: {text}")


def digest(tensors: Sequence[Tensor], text: str = "") -> str:
    """Tells one set of values from another: sha256 over their bytes."""
    found = hashlib.sha256(text.encode())
    for tensor in tensors:
        numbers = tensor.detach().cpu().reshape(-1).contiguous()
        found.update(numbers.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
