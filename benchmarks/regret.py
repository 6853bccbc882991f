"""Searches judged by known accuracies: every method at every budget and seed."""

import argparse
import re
import resource
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from darts_gdas.runtime.files import write_text
from darts_gdas.scoring.table import AccuracyTable
from darts_gdas.space import Genotype

ROOT = Path(__file__).parents[1]
METHODS = ("ntk_gdas", "gdas", "darts", "random_ws discretizer.count=100")
COLUMNS = ("cifar10_test_e200", "cifar100_test_e200", "imagenet16_test_e200")


@dataclass(frozen=True)
class Budget:
    """Images and epochs of a search; `images` is an image folder."""

    images: Path
    epochs: int

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read `FOLDER:EPOCHS`."""
        folder, _, epochs = text.rpartition(":")
        return cls(Path(folder), int(epochs))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("budgets", nargs="+", type=Budget.parse, metavar="IMAGES:EPOCHS")
    parser.add_argument("--table", type=Path, required=True, help="npz of the known accuracies")
    parser.add_argument("--out", type=Path, required=True, help="finished searches are kept there")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="each may add settings")
    parser.add_argument("--seeds", nargs="+", type=int, default=[20, 21])


def run(arguments: argparse.Namespace) -> None:
    tables = [AccuracyTable.load(arguments.table, column) for column in COLUMNS]
    heads = " | ".join(column.removesuffix("_test_e200") for column in COLUMNS)
    print(f"| method | images, epochs | seeds | CPU seconds | {heads} | cifar10, each |")
    print("|---|---|---|---|---|---|---|---|")
    for budget in arguments.budgets:
        for method in arguments.methods:
            runs = [_searched(method, budget, seed, arguments) for seed in arguments.seeds]
            known = [[table.accuracy(genotype) for genotype, _ in runs] for table in tables]
            means = " | ".join(f"{statistics.mean(column):.2f}" for column in known)
            print(
                f"| {method} | {budget.images.name}, {budget.epochs} | {len(runs)} "
                f"| {statistics.mean(seconds for _, seconds in runs):.0f} | {means} "
                f"| {' '.join(f'{accuracy:.1f}' for accuracy in known[0])} |",
                flush=True,
            )


def _searched(
    method: str, budget: Budget, seed: int, arguments: argparse.Namespace
) -> tuple[Genotype, float]:
    """The found cell and the search's CPU seconds; one that was stopped goes on."""
    name = re.sub(r"[^\w.]+", "_", f"{budget.images.name}_{budget.epochs}_{method}_{seed}")
    folder: Path = arguments.out / name
    clock = arguments.out / f"{name}.seconds"
    if not (folder / "result.json").exists():
        known = [f"benchmark={arguments.table}", f"benchmark_column={COLUMNS[0]}"]
        settings = [
            *("space=nasbench201", "dataset=image_folder", f"dataset.root={budget.images}"),
            *("net.channels=8", "net.layers=5", "threads=1", "device=cpu"),
            *(f"epochs={budget.epochs}", *known, f"method={method}"),
        ]
        command = [sys.executable, str(ROOT / "search.py"), f"run_dir={folder}", "resume=auto"]
        before = _cpu_seconds()
        subprocess.run(
            [*command, f"seed={seed}", *" ".join(settings).split(" ")],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        write_text(clock, str(_cpu_seconds() - before))
    genotype = Genotype.from_json((folder / "genotype.json").read_text())
    return genotype, float(clock.read_text())


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
