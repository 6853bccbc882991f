"""Whole searches: `python search.py` against the plain loop as a program, logging and all."""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Spent(NamedTuple):
    """Seconds of one program: by the clock, and of processor time."""

    wall: float
    processor: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="an image folder of 32x32 pixels with train/")
    parser.add_argument(
        "--methods", nargs="+", choices=("darts", "gdas"), default=["darts", "gdas"]
    )
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1, help="of each program, in turns")
    parser.add_argument("--threads", type=int, default=1)


def run(arguments: argparse.Namespace) -> None:
    print(
        "| method | program | wall, s | ratio | processor, s | ratio |\n|---|---|---|---|---|---|"
    )
    for method in arguments.methods:
        programs = {"plain loop": _plain(arguments, method), "search.py": _ours(arguments, method)}
        times: dict[str, list[Spent]] = {name: [] for name in programs}
        for _ in range(arguments.repeats):
            for name, command in programs.items():
                times[name].append(_time(command, arguments.threads))
        medians = {
            name: Spent(*map(statistics.median, zip(*spent, strict=True)))
            for name, spent in times.items()
        }
        plain = medians["plain loop"]
        for name, spent in medians.items():
            ratios = (before / now for before, now in zip(plain, spent, strict=True))
            columns = zip(spent, ratios, strict=True)
            cells = " | ".join(f"{seconds:.0f} | {ratio:.2f}" for seconds, ratio in columns)
            print(f"| {method} | {name} | {cells} |", flush=True)


def _plain(arguments: argparse.Namespace, method: str) -> list[str]:
    module = [sys.executable, "-m", "benchmarks.plain_search", str(arguments.images), method]
    names = ("channels", "layers", "batch", "epochs", "threads")
    return [*module, *(f"--{name}={getattr(arguments, name)}" for name in names)]


def _ours(arguments: argparse.Namespace, method: str) -> list[str]:
    settings = {
        "method": method,
        "dataset": "image_folder",
        "dataset.root": arguments.images,
        "net.channels": arguments.channels,
        "net.layers": arguments.layers,
        "batch_size": arguments.batch,
        "epochs": arguments.epochs,
        "threads": arguments.threads,
        "device": "cpu",
    }
    program = [sys.executable, str(ROOT / "search.py")]
    return [*program, *(f"{name}={value}" for name, value in settings.items())]


def _time(command: Sequence[str], threads: int) -> Spent:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = now.ru_utime - before.ru_utime + now.ru_stime - before.ru_stime
    return Spent(time.perf_counter() - start, processor)
