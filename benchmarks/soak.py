"""Runs that are killed at random moments, again and again, against undisturbed ones."""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.soak_ranks import course
from darts_gdas.runtime.checkpoint import CheckpointFolder
from darts_gdas.runtime.files import RunFolder

ROOT = Path(__file__).parents[1]
TINY = ("method=gdas", "net.channels=2", "net.layers=3", "space.num_nodes=2",
    "dataset.test_fraction=0.9",
        "batch_size=4", "checkpoint_every=1")  # fmt: skip
BEGUN = ("starting search", "resuming search")
MOMENTS = ("starting", "training", "training", "saving")
"""When to kill: before the first step, at any time after it, or in the middle of a write."""

SHORT = (*TINY, "epochs=1", "batch_size=32")
SCORING, SELECTING = "scoring cells: ", "selecting: "
PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "search": ((*TINY, "epochs=6"), MOMENTS),
    "warm start": (
        (*SHORT, "warm_start=ntk", "warm_start.samples=60", "warm_start.channels=2"),
        (SCORING,),
    ),
    "te_nas": (
        ("method=te_nas", *TINY[1:-2], "epochs=0", "warm_start.repeats=1",
            "warm_start.batch_size=4", "warm_start.region_samples=40",
            "space.candidates=[skip_connect,avg_pool_3x3,sep_conv_3x3]"),
        ("edges: ",),
    ),
    "best_of_draws": ((*SHORT, "discretizer=best_of_draws", "discretizer.count=60"), (SELECTING,)),
    "darts_pt": (("method=darts_pt", *SHORT[1:], "discretizer.tune_epochs=3"), (SELECTING,)),
    "sweep": ((*TINY, "epochs=2", "seed=0,1,2"), ("starting", *BEGUN)),
}  # fmt: skip
"""What is killed: its settings, and when: a moment, or some time after a line that begins so."""

RANKS = "ranks 1-2-3-1"
FILES = ("genotype.json", "genotype_best.json", "warm_start.csv", "warm_start.jsonl",
         "selection.jsonl")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = [*PARTS, RANKS]
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark_soak"))
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="PART")
    parser.add_argument("--kills", type=int, default=30, help="of the search")
    parser.add_argument("--few", type=int, default=5, help="kills of every other part")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--longest", type=float, default=3.0, help="seconds of work per life")


@dataclass
class Soak:
    """Lives and deaths of a run.

    Attributes:
        arguments: Of the search.
        moments: When it is killed.
        longest: Seconds that it may work before that.
        choices: Of the moments, see `PARTS`.
        seconds_to_begin: How long the last one took from its start to its first step.
        kills: By moment; "left a part of a file" counts those that came in the middle of a write.
        starts: How often it was started.
    """

    arguments: tuple[str, ...]
    moments: random.Random
    longest: float
    choices: tuple[str, ...] = MOMENTS
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
        moment = self.moments.choice(self.choices)
        begin, process = time.monotonic(), _start(folder, self.arguments)
        self.starts += 1
        if moment == "starting":
            ended = _wait(process, self.moments.uniform(0, self.seconds_to_begin))
        else:
            ended = not _read_until(process, BEGUN if moment in MOMENTS else (moment,))
            self.seconds_to_begin = time.monotonic() - begin
            ended = ended or _wait(process, self.moments.uniform(0, self.longest))
        if moment == "saving" and not ended:
            while process.poll() is None and not parts_of_files(folder):
                pass  # as fast as can be: a write takes milliseconds
        process.kill()
        if process.wait() == 0:
            return False
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err
        self.kills[moment] += 1
        self.kills["left a part of a file"] += bool(parts_of_files(folder))
        return True


def parts_of_files(folder: Path) -> list[Path]:
    """Temporary files in a run's folder, or in a sweep's."""
    return list(folder.rglob(".*.tmp"))


def run(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    print("| | kills | starts | ended, each bit-equal to the undisturbed one | seconds |")
    print("|---|---|---|---|---|")
    for part in arguments.parts:
        begin = time.monotonic()
        numbers = _soak_ranks(out, arguments) if part == RANKS else _soak(out, part, arguments)
        cells = [part, *numbers, round(time.monotonic() - begin)]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _soak(out: Path, part: str, arguments: argparse.Namespace) -> tuple[str, int, int]:
    """Kills, by moment; starts; runs that ended."""
    settings, choices = PARTS[part]
    whole = out / part.replace(" ", "_")
    _finish(_start(whole, settings))
    soak = Soak(settings, random.Random(arguments.seed), arguments.longest, choices)
    killed, rounds, wanted = 0, 0, arguments.kills if part == "search" else arguments.few
    while killed < wanted:
        folder = whole.with_name(f"{whole.name}_killed_{rounds}")
        killed += soak.run(folder, wanted - killed)
        rounds += 1
        _must_be_same(folder, whole)
    kinds = ", ".join(f"{number} {name.strip(': ')}" for name, number in sorted(soak.kills.items()))
    return f"{killed} ({kinds})", soak.starts, rounds


def _soak_ranks(out: Path, arguments: argparse.Namespace) -> tuple[str, int, int]:
    """The same, of a search that goes on among other numbers of ranks."""
    moments, settings = random.Random(arguments.seed), (*TINY[:-2], "epochs=4")
    whole, folder = out / "ranks", out / "ranks_killed"
    course(whole, settings, moments, 0)
    starts = course(folder, settings, moments, arguments.few)
    _must_be_same(folder, whole)
    return f"{arguments.few} (training)", starts, 1


def _must_be_same(folder: Path, whole: Path) -> None:
    jobs = sorted(path.parent.relative_to(whole) for path in whole.rglob("result.json"))
    assert jobs, whole
    for job in jobs:
        if differences := compare(folder / job, whole / job):
            raise SystemExit(f"{folder / job} differs from the undisturbed run: {differences}")


def compare(folder: Path, whole: Path) -> list[str]:
    """In what a run differs from an undisturbed one; empty if in nothing."""
    found = [name for name in FILES if _bytes(folder / name) != _bytes(whole / name)]
    if parts_of_files(folder):
        found.append("temporary files")
    if not (whole / "metrics.jsonl").exists():
        return found  # found untrained
    states = [_final_state(path) for path in (folder, whole)]
    if not is_same(*states):
        found.append("the last checkpoint")
    lines = [_metrics(path) for path in (folder, whole)]
    if [line["epoch"] for line in lines[0]] != [*range(len(lines[1]))]:
        found.append(f"epochs {[line['epoch'] for line in lines[0]]}")
    if lines[0] != lines[1]:
        found.append("metrics.jsonl")
    steps = [_steps(path) for path in (folder, whole)]
    if steps[0] != steps[1] or steps[0] != sorted(set(steps[0])):
        found.append(f"steps in TensorBoard {steps[0]}")
    best = [CheckpointFolder(RunFolder(path).checkpoints).best() for path in (folder, whole)]
    if best[0] is None or best[1] is None or best[0].name != best[1].name:
        found.append("the best checkpoint")
    return found


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


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


def _start(folder: Path, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """A search, or the sweep that these arguments ask for, in a folder; it goes on there."""
    place = [f"run_dir={folder}", "resume=auto"]
    if any("," in item and "[" not in item for item in arguments):
        place = ["--multirun", f"hydra.sweep.dir={folder}"]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "search.py"), *place, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def _read_until(process: subprocess.Popen[str], begins: tuple[str, ...]) -> bool:
    """Read until a line begins so; false if none does."""
    assert process.stderr is not None
    return any(line.startswith(begins) for line in process.stderr)


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
