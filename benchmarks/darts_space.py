"""Searched cells of the DARTS space on a folder of images, and random cells retrained alike."""

import argparse
from pathlib import Path

from benchmarks.retrained import HEAD, Comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="an image folder with train/ and test/")
    parser.add_argument("--out", type=Path, required=True, help="finished runs are kept there")
    parser.add_argument("--methods", nargs="+", default=["ntk_gdas"], help="each may add settings")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--random-seeds", nargs="+", type=int, default=list(range(12)))
    parser.add_argument("--search", nargs="*", default=["epochs=15"])
    parser.add_argument("--retraining", nargs="*", default=["epochs=30"])


def run(arguments: argparse.Namespace) -> None:
    data = ["dataset=image_folder", f"dataset.root={arguments.images}", "net.channels=8"]
    table = Comparison(
        arguments.out,
        data=[*data, "net.layers=5", "threads=1", "device=cpu"],
        search=arguments.search,
        retraining=arguments.retraining,
    )
    print(HEAD)
    for method in arguments.methods:
        table.searched(method, arguments.seeds)
    table.drawn(arguments.random_seeds)
