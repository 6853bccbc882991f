"""Training-free pruning of the DARTS space, against the cost of the kernels as published."""

import argparse
import time
from pathlib import Path

import torch

from benchmarks.measure import stopwatch
from benchmarks.ntk import one_graph
from darts_gdas.nets import Layout, SuperNet
from darts_gdas.nets.fixed import FixedMixture
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.datasets import Digits, ImageFolder
from darts_gdas.scoring.pruning import prune
from darts_gdas.scoring.supernets import Measurement
from darts_gdas.search import ArchParameters, Softmax
from darts_gdas.space import SearchSpace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, help="an image folder of 32x32 pixels; else digits")
    parser.add_argument("--batch", type=int, default=14)
    parser.add_argument("--channels", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--region-samples", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    space = SearchSpace.named("darts")
    data = Digits() if arguments.images is None else ImageFolder(root=str(arguments.images))
    train, _ = data.load()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    batch = train.pixels(order[: arguments.batch])
    images = Normalize(*train.statistics())(batch)
    layout = Layout(arguments.channels, 3, train.num_classes, train.in_channels)
    measurement = Measurement(layout, images, arguments.repeats, arguments.region_samples, seed=0)
    measured: dict[str, int] = {}

    def report(phase: str, done: int, total: int) -> None:
        measured[phase] = done
        if done == total:
            print(f"{phase}: {total} measurements", flush=True)

    start, processor = time.perf_counter(), time.process_time()
    pruned = prune(space, measurement, report=report)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    count = sum(measured.values())

    torch.manual_seed(0)
    net = FixedMixture(SuperNet(space, layout), Softmax()(ArchParameters(space)).detach())
    device = torch.device("cpu")
    kernel = min(stopwatch(lambda: one_graph(net, images), device) for _ in range(2))
    published = kernel * count
    print(f"\n{count} measurements of a kernel and of linear regions: {seconds:.0f} s,")
    machine = f"torch {torch.__version__}, {arguments.threads} threads"
    print(f"{processor:.1f} s of processor time; {machine}")
    print(f"one kernel as published, a backward pass per sample through one graph: {kernel:.2f} s;")
    print(f"all of them {published:.0f} s, {published / seconds:.1f} times this\n")
    print(pruned.genotype.to_json())
