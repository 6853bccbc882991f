"""Run a function on several ranks: processes on this machine, joined by a file.

They are forked from a server that has imported the libraries and computed nothing. A fork of the
tests' own process would not do: autograd refuses to work in it once some libraries have run.
"""

import contextlib
import logging
import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import torch
import torch.distributed as dist

from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.watch import Watch


def on_ranks(
    function: Callable[..., Any], folder: Path, *, size: int = 2, patience: float = 60
) -> list[Any]:
    """What `function(ranks)` returns on each rank.

    Args:
        function: May be a closure over values that can be pickled; so is what it returns.
        folder: For the file by which the ranks find each other.
        size: How many.
        patience: Seconds that a rank waits for another.

    Raises:
        AssertionError: With the traceback of a rank that failed.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["torch._dynamo", "pytest", "darts_gdas.tasks.search"])
    store, pipes, processes = folder / "store", [], []
    store.unlink(missing_ok=True)
    for rank in range(size):
        here, there = server.Pipe(duplex=False)
        ranks = Ranks(rank, size, rank, Watch(patience))
        arguments = cloudpickle.dumps(function), ranks, f"file://{store}", there, patience
        process = server.Process(target=_run, args=arguments)
        process.start()
        there.close()
        pipes.append(here)
        processes.append(process)
    try:
        found = []
        for rank, pipe in enumerate(pipes):
            assert pipe.poll(120), f"rank {rank} gave no answer"
            found.append(pipe.recv())
    finally:
        for process in processes:
            process.join(5)
            process.kill()
    for failed, value in found:
        assert not failed, value
    return [value for _, value in found]


def _run(function: bytes, ranks: Ranks, address: str, pipe: Any, patience: float) -> None:
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=address,
            rank=ranks.rank,
            world_size=ranks.size,
            timeout=timedelta(seconds=patience),
        )
        value = cloudpickle.loads(function)(ranks)
        dist.destroy_process_group()
        pipe.send((False, value))
    except BaseException:
        pipe.send((True, traceback.format_exc()))


@contextlib.contextmanager
def messages() -> Iterator[list[str]]:
    """What a rank's log says from warnings on, within it."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(handler)
