"""A model of a step's traffic, memory and time on any number of ranks, and its error."""

import argparse
import itertools
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from benchmarks.measure import MEBIBYTE, saved_bytes
from benchmarks.pair import search_task
from benchmarks.ranks import on_ranks
from benchmarks.scaling import step_on_ranks
from darts_gdas.nets import Layout, SuperNet
from darts_gdas.runtime.compute import Compute, usable_cores
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.search import FirstOrder, Softmax
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.stage import StageSearch

PARTS = ["traffic", "memory", "time"]
CPU = Compute(torch.device("cpu"), channels_last=True)
SIDE = 32
MESSAGES = 3
"""Of a W step: two buckets of gradients, and the running statistics."""


@dataclass(frozen=True)
class Setting:
    """A supernet and the images that one rank sees per step."""

    channels: int
    layers: int
    images: int

    @property
    def layout(self) -> Layout:
        return Layout(self.channels, self.layers, 10)

    def task(self) -> StageSearch:
        torch.manual_seed(0)
        task = search_task(Softmax(), FirstOrder(), self.layout, self.images, 4 * self.images, CPU)
        task.supernet.train()
        return task

    def __str__(self) -> str:
        return f"C={self.channels}, {self.layers} cells, {self.images} images"


FITTED = [Setting(c, n, b) for c, n, b in itertools.product((4, 8), (3, 6), (4, 16))]
HELD_OUT = [Setting(6, 5, 8), Setting(8, 8, 8), Setting(16, 3, 8), Setting(16, 8, 16)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)


def run(arguments: Namespace) -> None:
    torch.set_num_threads(1)
    if "traffic" in arguments.parts:
        traffic(arguments)
    if "memory" in arguments.parts:
        paper(memory())
    if "time" in arguments.parts:
        seconds(arguments)


def weight_bytes(supernet: SuperNet) -> int:
    """What a rank hands over in a W step in which every weight takes part."""
    moving = [b for n, b in supernet.named_buffers() if n.endswith(("_mean", "_var"))]
    return 4 * sum(tensor.numel() for tensor in [*supernet.parameters(), *moving])


def arch_bytes(space: SearchSpace) -> int:
    """What a rank hands over in a first-order A step: the gradient in the mixture."""
    return sum(4 * len(cell.edges) * cell.num_candidates for cell in space.cells.values())


def on_the_wire(handed: float, ranks: int) -> float:
    """Bytes that each rank of a ring sends to all-reduce what each hands over."""
    return 2 * (ranks - 1) / ranks * handed


def traffic(arguments: Namespace) -> None:
    """Counted in the process group, against numbers of the network."""
    print("| network | ranks | W step, counted | formula | A step, counted | formula |")
    print("|---|---|---|---|---|---|")
    for size, setting in itertools.product(arguments.ranks, (Setting(4, 3, 4), Setting(8, 6, 4))):
        found = _step(size, setting, repeats=0)
        supernet = setting.task().supernet
        print(
            f"| C={setting.channels}, {setting.layers} cells | {size} | {found['sent W']:.0f} "
            f"| {weight_bytes(supernet)} | {found['sent A']:.0f} | {arch_bytes(supernet.space)} |"
        )
    print()


def _step(size: int, setting: Setting, repeats: int) -> dict[str, float]:
    """Seconds and bytes of steps on several ranks, each with the setting's images."""
    given = Namespace(
        batch=setting.images * size, channels=setting.channels, layers=setting.layers,
        repeats=max(repeats, 1), device="cpu",
    )  # fmt: skip
    return step_on_ranks(size, "darts", given)


def cell_sizes(setting: Setting) -> tuple[float, float, float]:
    """Channels times pixels of an image, in units of the input's: stem, normal, reduction cells."""
    width, sizes = float(setting.channels), [0.0, 0.0]
    for position in range(setting.layers):
        is_reduction = position in setting.layout.reduction_positions
        width /= 2 if is_reduction else 1  # twice the channels, a quarter of the pixels
        sizes[is_reduction] += width
    return float(setting.channels), sizes[0], sizes[1]


def memory() -> Callable[[Setting], float]:
    """Bytes kept for the backward pass of a W step: linear in images, channels and cells."""

    def features(setting: Setting) -> list[float]:
        fixed = setting.channels**2 * setting.layers
        return [*(setting.images * SIDE**2 * 4 * size for size in cell_sizes(setting)), fixed]

    def measured(setting: Setting) -> float:
        task = setting.task()
        batch = task.data.weight_batches.batch(0)
        mixture = task.method.relaxation(task.alphas, progress=0.5, rng=task.noise).detach()
        return saved_bytes(
            lambda: F.cross_entropy(task.supernet(batch.images, mixture), batch.labels),
            task.supernet.parameters(),
        )

    weigh, factors = _fitted(features, measured, "kept", lambda n: f"{n / MEBIBYTE:.2f} MiB")
    print(f"factors {', '.join(f'{factor:.3g}' for factor in factors)}\n")
    return weigh


def _fitted(
    features: Callable[[Setting], Sequence[float]],
    measured: Callable[[Setting], float],
    what: str,
    shown: Callable[[float], str],
) -> tuple[Callable[[Setting], float], np.ndarray]:
    """Least squares of relative errors on the settings to fit; a table of those held out."""
    known = {setting: measured(setting) for setting in (*FITTED, *HELD_OUT)}
    factors = _least_squares([features(s) for s in FITTED], [known[s] for s in FITTED])

    def predict(setting: Setting) -> float:
        return float(np.dot(factors, features(setting)))

    errors = [abs(predict(s) / known[s] - 1) for s in FITTED]
    print(f"| {what}: held out | measured | model | error |\n|---|---|---|---|")
    for setting in HELD_OUT:
        error = predict(setting) / known[setting] - 1
        told = f"{shown(known[setting])} | {shown(predict(setting))} | {100 * error:+.1f} %"
        print(f"| {setting} | {told} |")
    print(f"\n{len(FITTED)} settings fitted: largest error {100 * max(errors):.1f} %; ", end="")
    return predict, factors


def _least_squares(rows: Sequence[Sequence[float]], values: Sequence[float]) -> np.ndarray:
    """Factors of the smallest relative errors."""
    weighted = np.array(rows) / np.array(values)[:, None]
    return np.linalg.lstsq(weighted, np.ones(len(values)), rcond=None)[0]


def seconds(arguments: Namespace) -> None:
    """A step of one rank, messages between ranks, and steps of several ranks by both."""

    def measured(setting: Setting) -> float:
        """Of processor time, which other work on the machine lengthens less."""
        task = setting.task()
        batch, times = task.data.weight_batches.batch(0), []
        for _ in range(1 + arguments.repeats):
            begin = time.process_time()
            task.step_weights(batch, 0.5)
            times.append(time.process_time() - begin)
        return min(times[1:])

    def features(setting: Setting) -> list[float]:
        pixels = setting.images * SIDE**2
        return [setting.layers, pixels * sum(cell_sizes(setting))]

    alone, factors = _fitted(features, measured, "W step", lambda t: f"{t:.3f} s")
    print(f"factors {', '.join(f'{factor:.3g}' for factor in factors)}\n")
    print("| ranks | latency | bandwidth | held-out sizes: largest error |\n|---|---|---|---|")
    links = {}
    for size in arguments.ranks:
        times = on_ranks(size, _messages)
        rows = [[1.0, on_the_wire(handed, size)] for handed in times]
        latency, inverse = links[size] = _least_squares(rows[::2], [*times.values()][::2])
        errors = [
            abs((latency + inverse * row[1]) / t - 1)
            for row, t in list(zip(rows, times.values(), strict=True))[1::2]
        ]
        print(
            f"| {size} | {1e6 * latency:.0f} us | {1e-9 / inverse:.2f} GB/s "
            f"| {100 * max(errors):.0f} % |"
        )
    print("\n| W step | ranks | measured | model | error |\n|---|---|---|---|---|")
    for size, setting in itertools.product(arguments.ranks, (Setting(4, 3, 8), Setting(8, 6, 8))):
        whole = _step(size, setting, arguments.repeats)
        latency, inverse = links[size]
        wire = on_the_wire(whole["sent W"], size)
        model = alone(setting) * max(size / usable_cores(), 1) + MESSAGES * latency + inverse * wire
        told = f"{whole['W']:.3f} s | {model:.3f} s | {100 * (model / whole['W'] - 1):+.0f} %"
        print(f"| {setting} each | {size} | {told} |")
    print()


def _messages(ranks: Ranks) -> dict[int, float]:
    """Median seconds of sums over ranks, by the bytes that each hands over."""
    found = {}
    for power in range(12, 25):
        numbers, times = torch.zeros(2**power // 4), []
        for _ in range(20):
            begin = time.perf_counter()
            dist.all_reduce(numbers)
            times.append(time.perf_counter() - begin)
        found[2**power] = statistics.median(times[2:])
    return found


PAPER = Setting(16, 8, 64)
ON_AN_H100 = 0.427
"""Seconds of its W step, measured (docs/benchmarks.md)."""

LINKS = {8: (200e9, 5e-6), 64: (20e9, 15e-6)}
"""Bytes per second and seconds of latency between neighbours of the ring: assumed."""


def paper(weigh: Callable[[Setting], float]) -> None:
    """What the model says of GPUs that we do not have."""
    handed, images = weight_bytes(replace(PAPER, images=2).task().supernet), PAPER.images
    print(f"{PAPER}: {weigh(PAPER) / MEBIBYTE:.0f} MiB kept, {handed} bytes handed over\n")
    print("| GPUs | sent per GPU | t_send | W step | images per s | of linear |")
    print("|---|---|---|---|---|---|")
    for size, (bandwidth, latency) in LINKS.items():
        wire = on_the_wire(handed, size)
        send = wire / bandwidth + MESSAGES * 2 * (size - 1) * latency
        step = ON_AN_H100 + send  # nothing overlaps: the worst case
        row: Iterable[str] = (
            f"{size}", f"{wire / MEBIBYTE:.1f} MiB", f"{1e3 * send:.2f} ms",
            f"{1e3 * step:.0f} ms", f"{size * images / step:.0f}", f"{ON_AN_H100 / step:.3f}",
        )  # fmt: skip
        print(f"| {' | '.join(row)} |")
