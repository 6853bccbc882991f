"""Cells per second of a ranking on one process, several workers, and several ranks."""

import argparse
import statistics
import time
from argparse import Namespace
from dataclasses import replace
from random import Random

import torch

from benchmarks.ranks import on_ranks
from darts_gdas.nets import NASBENCH201, Layout
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.journal import Journal
from darts_gdas.scoring.scores import DEFAULT_SCORES, SIZES
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.ranking import ScoreTask

SPACES = {"nasbench201": Layout(8, 5, 10, skeleton=NASBENCH201), "darts": Layout(8, 3, 10)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--side", type=int, default=8, help="of the images; digits have 8")
    parser.add_argument("--spaces", nargs="+", choices=[*SPACES], default=[*SPACES])


def run(arguments: Namespace) -> None:
    print("| space | alone, s | two | ratios of the pairs | median |\n|---|---|---|---|---|")
    for space in arguments.spaces:
        for name, two in (("workers", _by_workers), ("ranks", _by_ranks)):
            pairs = [
                (_by_workers(space, arguments, 1), two(space, arguments, 2))
                for _ in range(arguments.pairs)
            ]
            ratios = [alone / both for alone, both in pairs]
            told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            least = min(alone for alone, _ in pairs)
            print(f"| {space} | {least:.1f} | {name} | {told} | {statistics.median(ratios):.2f} |")


def _task(space: str, arguments: Namespace) -> ScoreTask:
    cells = SearchSpace.named(space)
    generator = torch.Generator().manual_seed(0)
    shape = (64, 3, arguments.side, arguments.side)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return ScoreTask(
        tuple(cells.sample(Random(i)) for i in range(arguments.count)), SPACES[space],
        ImageSet(pixels, torch.arange(64) % 10, tuple("0123456789")),
        Normalize(torch.full((3,), 0.5), torch.full((3,), 0.25)), 32, DEFAULT_SCORES, SIZES, 1,
        Compute(torch.device("cpu")), 0,
    )  # fmt: skip


def _timed(task: ScoreTask, workers: int = 1, ranks: Ranks = ALONE) -> float:
    """Seconds of a ranking; what is done once per process has been done."""
    ScoreTask.run(_few(task), Journal(None, ""))
    ranks.wait()
    begin = time.perf_counter()
    task.run(Journal(None, "", workers=workers, ranks=ranks))
    return time.perf_counter() - begin


def _few(task: ScoreTask) -> ScoreTask:
    return replace(task, genotypes=task.genotypes[:3])


def _by_workers(space: str, arguments: Namespace, workers: int) -> float:
    return _timed(_task(space, arguments), workers)


def _by_ranks(space: str, arguments: Namespace, size: int) -> float:
    return on_ranks(size, _on_rank, space, arguments)


def _on_rank(ranks: Ranks, space: str, arguments: Namespace) -> float:
    return _timed(_task(space, arguments), ranks=ranks)
