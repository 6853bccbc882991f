"""Several processes of this machine that measure side by side, each with one thread.

They are copies of this process at the moment when they are needed, so they know what it knows and
cost no start. They end with it, however it ends.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch

from darts_gdas.runtime.compute import ALL_THREADS, local_ranks, own_cores
from darts_gdas.runtime.signals import SIGNALS

Item = TypeVar("Item")
Value = TypeVar("Value")

MAX_WORKERS = 1024

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_LOOK_SECONDS = 1.0
"""How often an idle worker looks whether its parent still lives, where it is not told."""


def check_workers(wanted: int) -> None:
    """Raise a `ValueError` unless it is a number of processes, or 0."""
    if not 0 <= wanted <= MAX_WORKERS:
        raise ValueError(f"workers must lie in 0..{MAX_WORKERS} (0 is one per core), got {wanted}")


def count_workers(wanted: int, device: torch.device) -> int:
    """How many processes measure.

    Args:
        wanted: What the user asked for; 0 is one per core that PyTorch may use, shared among the
            ranks of this machine.
        device: Where they compute. A GPU's state cannot be copied, so there it is one.
    """
    if device.type != "cpu":
        return 1
    # To each of several ranks of a machine torchrun gives one thread, however many cores there are.
    return wanted or (own_cores() if local_ranks() > 1 else ALL_THREADS)


def spread(
    items: Sequence[Item],
    measure: Callable[[Item], Value],
    workers: int,
    positions: Iterable[int] | None = None,
) -> Generator[tuple[int, Value], None, None]:
    """Position and value of each item, as they come; with one worker in this process, in order.

    Values do not depend on the number of workers: one thread computes each of them. Who stops
    asking closes the iterator, which ends the workers.

    Args:
        items: What to measure.
        measure: Of one item; what it changes stays in its process.
        workers: At least 1.
        positions: Which items; asked for the next one when a worker is free. All by default.

    Raises:
        ChildProcessError: If a worker dies.
        Exception: What `measure` raises.
    """
    waiting = iter(range(len(items)) if positions is None else positions)
    workers = min(workers, len(items))
    if workers <= 1:
        for i in waiting:
            with _one_thread():
                value = measure(items[i])
            yield i, value
        return
    context = multiprocessing.get_context("fork")
    with contextlib.ExitStack() as stack:
        idle: list[Any] = []
        for _ in range(workers):
            ours, theirs = context.Pipe()
            arguments = (theirs, items, measure, os.getpid())
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(process.kill)
            theirs.close()
            idle.append(ours)
        busy: dict[Any, int] = {}
        while True:
            for connection, i in zip(idle, waiting, strict=False):
                connection.send(i)
                busy[connection] = i
            if not busy:
                return
            idle = wait([*busy])
            for connection in idle:
                yield busy.pop(connection), _received(connection)


def _received(connection: Any) -> Any:
    try:
        value, error = connection.recv()
    except (EOFError, ConnectionError):
        raise ChildProcessError(
            "a worker process died, perhaps for lack of memory; what is measured is kept, and "
            "workers=1 measures in one process"
        ) from None
    if error is not None:
        raise error
    return value


def _serve(
    connection: Connection, items: Sequence[Any], measure: Callable[[Any], Any], parent: int
) -> None:
    """Measure what the parent names, until it is gone. Requests to stop are for the parent."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    with contextlib.suppress(AttributeError, OSError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, ConnectionError):
        while os.getppid() == parent:
            if connection.poll(_LOOK_SECONDS):
                connection.send(_outcome(measure, items[connection.recv()]))


def _outcome(measure: Callable[[Item], Value], item: Item) -> tuple[Value | None, Exception | None]:
    try:
        return measure(item), None
    except Exception as error:
        return None, error


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
