"""A search that is killed at random moments, again and again, against an undisturbed one."""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from darts_gdas.runtime.checkpoint import CheckpointFolder
from darts_gdas.runtime.files import RunFolder

ROOT = Path(__file__).parents[1]
TINY = ("method=gdas", "net.channels=2", "net.layers=3", "space.num_nodes=2",
    "dataset.test_fraction=0.9",
        "batch_size=4", "checkpoint_every=1")  # fmt: skip
BEGUN = ("starting search", "resuming search")
MOMENTS = ("starting", "training", "training", "saving")
"""When to kill: before the first step, at any time after it, or in the middle of a write."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark_soak"))
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--longest", type=float, default=3.0, help="seconds of training per life")


@dataclass
class Soak:
    """Lives and deaths of a search.

    Attributes:
        arguments: Of the search.
        moments: When it is killed.
        longest: Seconds that it may train before that.
        seconds_to_begin: How long the last one took from its start to its first step.
        kills: By moment; "left a part of a file" counts those that came in the middle of a write.
        starts: How often it was started.
    """

    arguments: tuple[str, ...]
    moments: random.Random
    longest: float
    seconds_to_begin: float = 5.0
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0

    def run(self, folder: Path, num_kills: int) -> int:
        """Run to the end, killed at most `num_kills` times; returns how often."""
        killed = 0
        while killed < num_kills and self._is_killed(folder):
            killed += 1
        if killed == num_kills:
            self.starts += 1
            _finish(_start(folder, self.arguments))
        return killed

    def _is_killed(self, folder: Path) -> bool:
        """Start it and kill it; False if it has come to its end before."""
        moment = self.moments.choice(MOMENTS)
        begin, process = time.monotonic(), _start(folder, self.arguments)
        self.starts += 1
        if moment == "starting":
            ended = _wait(process, self.moments.uniform(0, self.seconds_to_begin))
        else:
            _read_until_begun(process)
            self.seconds_to_begin = time.monotonic() - begin
            ended = _wait(process, self.moments.uniform(0, self.longest))
        if moment == "saving" and not ended:
            while process.poll() is None and not parts_of_files(folder):
                pass  # as fast as can be: a write takes milliseconds
        process.kill()
        if process.wait() == 0:
            return False
        _, err = process.communicate()
        assert process.returncode == -9, err
        self.kills[moment] += 1
        self.kills["left a part of a file"] += bool(parts_of_files(folder))
        return True


def parts_of_files(folder: Path) -> list[Path]:
    """Temporary files in a run folder."""
    return [p for place in (folder, folder / "checkpoints") for p in place.glob(".*.tmp")]


def run(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    settings = (*TINY, f"epochs={arguments.epochs}")
    _finish(_start(out / "whole", settings))
    soak = Soak(settings, random.Random(arguments.seed), arguments.longest)
    begin, killed, rounds = time.monotonic(), 0, 0
    while killed < arguments.kills:
        folder = out / f"killed_{rounds}"
        killed += soak.run(folder, arguments.kills - killed)
        rounds += 1
        differences = compare(folder, out / "whole")
        if differences:
            raise SystemExit(f"{folder} differs from the undisturbed run: {differences}")
    rows = {
        "kills": killed,
        **{f"of them, {name}": number for name, number in sorted(soak.kills.items())},
        "starts": soak.starts,
        "searches ended, each bit-equal to the undisturbed one": rounds,
        "seconds": round(time.monotonic() - begin),
    }
    print("| | |\n|---|---|")
    for name, number in rows.items():
        print(f"| {name} | {number} |")


def compare(folder: Path, whole: Path) -> list[str]:
    """In what a run differs from an undisturbed one; empty if in nothing."""
    found = []
    states = [_final_state(path) for path in (folder, whole)]
    if not is_same(*states):
        found.append("the last checkpoint")
    lines = [_metrics(path) for path in (folder, whole)]
    if [line["epoch"] for line in lines[0]] != [*range(len(lines[1]))]:
        found.append(f"epochs {[line['epoch'] for line in lines[0]]}")
    if lines[0] != lines[1]:
        found.append("metrics.jsonl")
    for name in ("genotype.json", "genotype_best.json"):
        if (folder / name).read_bytes() != (whole / name).read_bytes():
            found.append(name)
    if parts_of_files(folder):
        found.append("temporary files")
    steps = [_steps(path) for path in (folder, whole)]
    if steps[0] != steps[1] or steps[0] != sorted(set(steps[0])):
        found.append(f"steps in TensorBoard {steps[0]}")
    best = [CheckpointFolder(RunFolder(path).checkpoints).best() for path in (folder, whole)]
    if best[0] is None or best[1] is None or best[0].name != best[1].name:
        found.append("the best checkpoint")
    return found


def is_same(a: object, b: object) -> bool:
    """Bit for bit, through nested containers."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(is_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(is_same, a, b))
    return a == b


def _final_state(folder: Path) -> dict:
    found = CheckpointFolder(RunFolder(folder).checkpoints).newest()
    assert found is not None
    return {key: value for key, value in found[1].items() if key != "seconds"}


def _metrics(folder: Path) -> list[dict]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    measured = ("seconds", "device", "peak_memory_bytes")
    return [{k: v for k, v in line.items() if k not in measured} for line in lines]


def _steps(folder: Path) -> list[int]:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return [scalar.step for scalar in events.Scalars("train/loss")]


def _start(folder: Path, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "search.py"), *arguments, f"run_dir={folder}"]
    return subprocess.Popen(
        [*command, "resume=auto"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def _read_until_begun(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    line, seen = "", ""
    while not line.startswith(BEGUN):
        line = process.stderr.readline()
        seen += line
        if not line:
            raise SystemExit(f"the search ended before its first step: {seen}")


def _wait(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether the process ends within this time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _finish(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the search failed: {err}")
