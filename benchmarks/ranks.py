"""Work on several ranks of this machine, one thread each."""

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from darts_gdas.runtime.distributed import Ranks


def on_ranks(size: int, work: Callable[..., Any], *arguments: Any, backend: str = "gloo") -> Any:
    """What the first rank returns of `work(ranks, *arguments)`: numbers, lists or dictionaries.

    Args:
        size: How many ranks; one runs in a process of its own too, without a process group.
        work: A function of a module, which all ranks call.
        *arguments: Its further arguments.
        backend: Of the process group.
    """
    with tempfile.TemporaryDirectory() as folder:
        spawn(_rank, (size, folder, backend, work, arguments), nprocs=size)
        return torch.load(Path(folder) / "found.pt", weights_only=True)


def _rank(
    rank: int, size: int, folder: str, backend: str, work: Callable[..., Any], arguments: tuple
) -> None:
    torch.set_num_threads(1)
    if "cuda" in backend:
        torch.cuda.set_device(rank)
    if size > 1:
        dist.init_process_group(
            backend,
            init_method=f"file://{folder}/store",
            rank=rank,
            world_size=size,
            timeout=timedelta(minutes=10),
        )
    found = work(Ranks(rank, size, rank), *arguments)
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")
    if size > 1:
        dist.destroy_process_group()
