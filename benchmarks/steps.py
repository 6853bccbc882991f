"""Time of one search step, per method, on random images of CIFAR's size."""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from darts_gdas.nets import Layout
from darts_gdas.runtime.augment import Augment, Normalize
from darts_gdas.runtime.compute import Compute, Device, Precision
from darts_gdas.runtime.data import BatchStream
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.optim import SGD, Adam
from darts_gdas.search import (
    ArgMax,
    FirstOrder,
    GumbelHard,
    Hypergradient,
    Relaxation,
    Softmax,
    Unrolled,
    UnrolledExact,
)
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.method import Method, Order, SearchData
from darts_gdas.tasks.search import SearchTask

METHODS: dict[str, tuple[Relaxation, Hypergradient]] = {
    "darts": (Softmax(), FirstOrder()),
    "gdas": (GumbelHard(), FirstOrder()),
    "darts_2nd (finite differences)": (Softmax(), Unrolled()),
    "darts_2nd (exact product)": (Softmax(), UnrolledExact()),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=[d.name for d in Device], default="auto")
    parser.add_argument("--precision", choices=[p.name for p in Precision], default="fp32")


def run(arguments: argparse.Namespace) -> None:
    compute = Compute.select(
        Device[arguments.device], Precision[arguments.precision], True, arguments.threads
    )
    tasks = {name: _task(arguments, compute, *parts) for name, parts in METHODS.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for repeat in range(arguments.repeats + 1):  # the first is a warm-up
        for name, task in tasks.items():  # interleaved: a change of clock hits all alike
            measured = _measure(task, compute)
            if repeat:
                times[name].append(measured)
    print(f"{compute.describe()}; C={arguments.channels}, {arguments.layers} cells,", end=" ")
    print(f"batch {arguments.batch} of 3x32x32, torch {torch.__version__}\n")
    print("| method | weight step, ms | arch step, ms | weight step / darts | arch / darts |")
    print("|---|---|---|---|---|")
    base = [statistics.median(column) for column in zip(*times["darts"], strict=True)]
    for name, rows in times.items():
        weight, arch = (statistics.median(column) for column in zip(*rows, strict=True))
        ratios = f"{weight / base[0]:.2f} | {arch / base[1]:.2f}"
        print(f"| {name} | {1e3 * weight:.0f} | {1e3 * arch:.0f} | {ratios} |")


def _task(
    arguments: argparse.Namespace,
    compute: Compute,
    relaxation: Relaxation,
    hypergradient: Hypergradient,
) -> SearchTask:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (4 * arguments.batch, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(len(pixels)) % 10
    images = ImageSet(pixels, labels, tuple("0123456789")).to(compute.device)
    normalize = Normalize(torch.full((3,), 0.5), torch.full((3,), 0.25))
    streams = [
        BatchStream(
            images,
            batch_size=arguments.batch,
            augment=Augment(4, True),
            normalize=normalize,
            seed=0,
            name=name,
            channels_last=True,
        )
        for name in ("weights", "arch")
    ]
    method = Method(relaxation, hypergradient, ArgMax(), SGD(), Adam(), Order.arch_first)
    layout = Layout(arguments.channels, arguments.layers, 10)
    data = SearchData(streams[0], streams[1], images, normalize)
    space = SearchSpace.named("darts")
    return SearchTask(space, layout, method, data, num_epochs=1, compute=compute, seed=0)


def _measure(task: SearchTask, compute: Compute) -> tuple[float, float]:
    """Seconds of a weight step and of an arch step."""
    batches = task.data.weights.batch(0), task.data.arch.batch(0)
    task.supernet.train()
    return (
        _seconds(lambda: task.weight_step(*batches, 0.5), compute),
        _seconds(lambda: task.arch_step(*batches, 0.5), compute),
    )


def _seconds(call: Callable[[], object], compute: Compute) -> float:
    _wait(compute)
    start = time.perf_counter()
    call()
    _wait(compute)
    return time.perf_counter() - start


def _wait(compute: Compute) -> None:
    if compute.device.type == "cuda":
        torch.cuda.synchronize()
