"""Steps of a search on several ranks: seconds, and bytes that the ranks send."""

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from benchmarks.measure import MEBIBYTE, interleaved
from benchmarks.pair import search_task
from benchmarks.ranks import on_ranks
from darts_gdas.nets import Layout
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import Batch
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.search import FirstOrder, GumbelHard, Softmax
from darts_gdas.tasks.stage import StageSearch

RELAXATIONS = {"darts": Softmax(), "gdas": GumbelHard()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=32, help="images of all ranks")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")


def run(arguments: argparse.Namespace) -> None:
    print("| method | ranks | W step | A step | sent per W step | sent per A step |")
    print("|---|---|---|---|---|---|")
    for method in RELAXATIONS:
        for size in arguments.ranks:
            print(_row(method, str(size), step_on_ranks(size, method, arguments)))
    most = max(arguments.ranks)
    if most > 1:
        sparse = step_on_ranks(most, "gdas", arguments, find_unused=True)
        print(_row("gdas, by find_unused_parameters", str(most), sparse))


def _row(method: str, ranks: str, found: dict[str, float]) -> str:
    times = " | ".join(f"{found[step]:.3f} s" for step in ("W", "A"))
    sent = " | ".join(f"{found[f'sent {step}'] / MEBIBYTE:.3f} MiB" for step in ("W", "A"))
    return f"| {method} | {ranks} | {times} | {sent} |"


def step_on_ranks(
    size: int, method: str, arguments: argparse.Namespace, *, find_unused: bool = False
) -> dict[str, float]:
    """Seconds and bytes of both steps, as the first rank measures them."""
    backend = "cpu:gloo,cuda:nccl" if arguments.device == "cuda" else "gloo"
    return on_ranks(size, _measure, method, arguments, find_unused, backend=backend)


def _measure(
    ranks: Ranks, method: str, arguments: argparse.Namespace, find_unused: bool
) -> dict[str, float]:
    torch.manual_seed(0)
    compute = Compute(torch.device(arguments.device), channels_last=True, ranks=ranks)
    layout = Layout(arguments.channels, arguments.layers, 10)
    batch = arguments.batch
    task = search_task(RELAXATIONS[method], FirstOrder(), layout, batch, 4 * batch, compute)
    task.supernet.train()
    batches = task.data.weight_batches.batch(0), task.data.arch_batches.batch(0)
    calls: dict[str, Callable[[], object]] = {
        "W": lambda: task.step_weights(batches[0], 0.5),
        "A": lambda: task.arch_step(*batches, 0.5),
    }
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view")  # see `Replica`
    if find_unused:
        parallel = DistributedDataParallel(task.supernet, find_unused_parameters=True)
        calls["W"] = lambda: _library_step(task, parallel, batches[0])
    else:
        calls["W"]()  # makes the library's wrapper, where one is used
        parallel = task.weight_step.replica._parallel
    sent = counted(parallel)
    found: dict[str, float] = {}
    for step, call in calls.items():  # sampled paths differ in size
        call()
        sent["bytes"], count = 0, 4 if method == "gdas" else 1
        for _ in range(count):
            call()
        found[f"sent {step}"] = sent["bytes"] / count
    repeats = arguments.repeats * (4 if method == "gdas" else 1)
    return found | interleaved(calls, repeats=repeats, device=compute.device)


def _library_step(task: StageSearch, parallel: nn.Module, batch: Batch) -> None:
    """As usually done: `DistributedDataParallel` looks for the weights that took no part."""
    mixture = task.method.relaxation(task.alphas, progress=0.5, rng=task.noise).detach()
    F.cross_entropy(parallel(batch.images, mixture), batch.labels).backward()
    task.method.optimizer.step(task.weight_step.optimizer)


def counted(parallel: DistributedDataParallel | None) -> dict[str, int]:
    """Bytes that this rank hands to the process group from here on."""
    sent, plain = {"bytes": 0}, dist.all_reduce

    def counted(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        sent["bytes"] += tensor.numel() * tensor.element_size()
        return plain(tensor, *arguments, **options)

    dist.all_reduce = counted
    if parallel is not None:
        parallel.register_comm_hook(None, allreduce_hook)  # goes through `dist.all_reduce`
    return sent
