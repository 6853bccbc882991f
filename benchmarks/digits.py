"""Searched cells on few digits, random cells retrained alike, and a support vector machine."""

import argparse
import json
import random
import statistics
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from sklearn.svm import SVC

from darts_gdas.runtime.datasets import Digits
from darts_gdas.runtime.files import write_text
from darts_gdas.space import SearchSpace

ROOT = Path(__file__).parents[1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark_digits"))
    parser.add_argument("--searches", type=int, default=5)
    parser.add_argument("--random-cells", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=2, help="retrainings of each cell")
    parser.add_argument("--test-fraction", type=float, default=0.8, help="the rest is trained on")
    parser.add_argument("--method", default="ntk_gdas")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--overrides", nargs="*", default=["net.channels=8", "epochs=30"])


def run(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    data = f"dataset.test_fraction={arguments.test_fraction}"
    machine = svm_accuracy(arguments.test_fraction)
    print("| | test accuracy | parameters | multiply-adds | seconds of search + retraining |")
    print("|---|---|---|---|---|")
    print(f"| support vector machine (RBF) | {100 * machine:.2f} % | - | - | - |", flush=True)

    def retrained(name: str, genotype: Path, seconds: float) -> dict[str, float]:
        results = [
            _run("train.py", out / f"{name}_{seed}", f"genotype={genotype}", f"seed={seed}",
                 data, *arguments.overrides)
            for seed in range(arguments.repeats)
        ]  # fmt: skip
        found = {
            "accuracy": statistics.mean(result["test"]["accuracy"] for result in results),
            "parameters": results[0]["parameters"],
            "multiply_adds": results[0]["multiply_adds"],
        }
        trained = sum(result["seconds"] for result in results)
        print(
            f"| {name.replace('_', ' ')} | {100 * found['accuracy']:.2f} % "
            f"| {found['parameters']:,} | {found['multiply_adds']:,} "
            f"| {seconds:.0f} + {trained:.0f} |",
            flush=True,
        )
        return found

    searched, drawn = [], []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.searches):
        folder = out / f"search_{seed}"
        method = f"method={arguments.method}"
        result = _run("search.py", folder, method, f"seed={seed}", data)
        searched.append(retrained(f"searched_{seed}", folder, result["seconds"]))
    for seed in range(arguments.random_cells):
        path = out / f"random_{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, SearchSpace.named("darts").sample(random.Random(seed)).to_json())
        drawn.append(retrained(f"random_{seed}", path, 0.0))
    _print_summary("searched cells", searched)
    _print_summary("random cells", drawn)
    accuracies = [cell["accuracy"] for cell in drawn]
    mean = statistics.mean(cell["accuracy"] for cell in searched)
    below = sum(accuracy < mean for accuracy in accuracies)
    print(f"\nThe mean of the searched cells lies above {below} of {len(accuracies)} random cells.")


def svm_accuracy(test_fraction: float) -> float:
    """Test accuracy on the very split that networks are trained and tested on."""
    train, test = Digits(test_fraction=test_fraction).load()
    (x, y), (x_test, y_test) = (
        (s.sample.images.flatten(1).float() / 255, s.labels.numpy()) for s in (train, test)
    )
    return float(SVC(C=10.0, gamma="scale").fit(x.numpy(), y).score(x_test.numpy(), y_test))


def _run(script: str, folder: Path, *arguments: str) -> dict:
    """Run a program with the default settings, in a folder that must not be there yet."""
    command = [sys.executable, str(ROOT / script), f"run_dir={folder}", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "result.json").read_text())


def _print_summary(name: str, cells: list[dict[str, float]]) -> None:
    means = {key: statistics.mean(cell[key] for cell in cells) for key in cells[0]}
    deviation = statistics.stdev(cell["accuracy"] for cell in cells)
    print(
        f"| mean of {len(cells)} {name} | {100 * means['accuracy']:.2f} +- {100 * deviation:.2f} % "
        f"| {means['parameters']:,.0f} | {means['multiply_adds']:,.0f} | - |"
    )
