"""Run a function on several ranks: forked processes of this one, joined by a file."""

import multiprocessing
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from darts_gdas.runtime.distributed import Ranks


def on_ranks(
    function: Callable[..., Any], folder: Path, *, size: int = 2, patience: float = 60
) -> list[Any]:
    """What `function(ranks)` returns on each rank.

    Args:
        function: May be a closure; what it returns is pickled.
        folder: For the file by which the ranks find each other.
        size: How many.
        patience: Seconds that a rank waits for another.

    Raises:
        AssertionError: With the traceback of a rank that failed.
    """
    fork = multiprocessing.get_context("fork")
    store, pipes, processes = folder / "store", [], []
    store.unlink(missing_ok=True)
    for rank in range(size):
        here, there = fork.Pipe(duplex=False)
        ranks = Ranks(rank, size, rank)
        arguments = function, ranks, f"file://{store}", there, patience
        process = fork.Process(target=_run, args=arguments, daemon=True)
        with warnings.catch_warnings():  # no other thread of ours holds a lock
            warnings.simplefilter("ignore", DeprecationWarning)
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


def _run(
    function: Callable[..., Any], ranks: Ranks, address: str, pipe: Any, patience: float
) -> None:
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=address,
            rank=ranks.rank,
            world_size=ranks.size,
            timeout=timedelta(seconds=patience),
        )
        value = function(ranks)
        dist.destroy_process_group()
        pipe.send((False, value))
    except BaseException:
        pipe.send((True, traceback.format_exc()))
