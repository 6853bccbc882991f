"""The searched cell on digits against random cells and a support vector machine."""

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
    parser.add_argument("--random-cells", type=int, default=3)


def run(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    rows = [("support vector machine (RBF)", f"{100 * svm_accuracy():.2f} %", "-", "-")]
    search = _run("search.py", out / "search")
    searched = _run("train.py", out / "searched", f"genotype={out / 'search'}")
    rows.append(_row("cell found by `make search`", searched, search["seconds"]))
    accuracies = []
    for seed in range(arguments.random_cells):
        path = out / f"random_{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, SearchSpace.named("darts").sample(random.Random(seed)).to_json())
        result = _run("train.py", out / f"random_{seed}", f"genotype={path}")
        accuracies.append(result["test"]["accuracy"])
        rows.append(_row(f"random cell, seed {seed}", result, 0.0))
    mean = statistics.mean(accuracies)
    rows.append((f"mean of {len(accuracies)} random cells", f"{100 * mean:.2f} %", "-", "-"))
    print("| | test accuracy | parameters | seconds of search + retraining |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def svm_accuracy() -> float:
    """Test accuracy on the very split that networks are trained and tested on."""
    train, test = Digits().load()
    (x, y), (x_test, y_test) = (
        (s.images.flatten(1).float() / 255, s.labels.numpy()) for s in (train, test)
    )
    return float(SVC(C=10.0, gamma="scale").fit(x.numpy(), y).score(x_test.numpy(), y_test))


def _run(script: str, folder: Path, *arguments: str) -> dict:
    """Run a program with the default settings, in a folder that must not be there yet."""
    command = [sys.executable, str(ROOT / script), f"run_dir={folder}", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "result.json").read_text())


def _row(name: str, result: dict, search_seconds: float) -> tuple[str, str, str, str]:
    return (
        name,
        f"{100 * result['test']['accuracy']:.2f} %",
        f"{result['parameters']:,}",
        f"{search_seconds:.0f} + {result['seconds']:.0f}",
    )
