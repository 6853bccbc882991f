"""Searched cells for digits, random cells retrained alike, and a support vector machine."""

import argparse
from datetime import datetime
from pathlib import Path

from sklearn.svm import SVC

from benchmarks.retrained import HEAD, Comparison
from darts_gdas.runtime.datasets import Digits

SMALL = ["net.channels=2", "net.layers=3", "epochs=40", "regularization.drop_path=0"]
"""Two channels: in a network this small cells differ. It is too small to be held back."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path("outputs/benchmark_digits") / started
    parser.add_argument("--out", type=Path, default=folder, help="one of before goes on")
    parser.add_argument("--searches", type=int, default=5)
    parser.add_argument("--random-cells", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=2, help="retrainings of each cell")
    parser.add_argument("--test-fraction", type=float, default=0.2, help="the rest is trained on")
    parser.add_argument("--method", default="ntk_gdas")
    parser.add_argument("--first-seed", type=int, default=0, help="of searches and random cells")
    parser.add_argument("--retraining", nargs="*", default=SMALL)


def run(arguments: argparse.Namespace) -> None:
    first, fraction = arguments.first_seed, arguments.test_fraction
    machine = f"{100 * svm_accuracy(fraction):.2f} %"
    print(f"{HEAD}\n| support vector machine (RBF) | {machine} | - | - | - |", flush=True)
    table = Comparison(
        arguments.out,
        data=[f"dataset.test_fraction={fraction}"],
        retraining=arguments.retraining,
        repeats=arguments.repeats,
    )
    table.searched(arguments.method, range(first, first + arguments.searches))
    table.drawn(range(first, first + arguments.random_cells))


def svm_accuracy(test_fraction: float) -> float:
    """Test accuracy on the very split that networks are trained and tested on."""
    train, test = Digits(test_fraction=test_fraction).load()
    (x, y), (x_test, y_test) = (
        (s.sample.images.flatten(1).float() / 255, s.labels.numpy()) for s in (train, test)
    )
    return float(SVC(C=10.0, gamma="scale").fit(x.numpy(), y).score(x_test.numpy(), y_test))
