"""A report of a long search: its size, the time to write it, the time to open it."""

import argparse
import importlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from darts_gdas import Mixture, SearchSpace
from darts_gdas.nets import CellMixture
from darts_gdas.report.alphas import alphas_line
from darts_gdas.report.run_page import write_report
from darts_gdas.report.view import SearchView
from darts_gdas.search import ArgMax

DRAWN = "document.querySelectorAll('.chart').length === document.querySelectorAll('canvas').length"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--browser", help="a Chromium; default: the one of playwright")
    parser.add_argument("--folder", type=Path, help="where the run is kept; default: nowhere")


def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.folder or Path(place)
        write_run(folder, arguments.epochs)
        page, written = write_report(folder), []  # the first one reads fonts
        for _ in range(arguments.repeats):
            begin = time.perf_counter()
            write_report(folder)
            written.append(time.perf_counter() - begin)
        opened = _opened(page, arguments.repeats, arguments.browser)
        size = page.stat().st_size / 1e6
    print("| epochs | candidates | edges | MB | written in, s | open in, s |")
    print("|---|---|---|---|---|---|")
    shown = "-" if opened is None else f"{opened:.2f}"
    took = f"{statistics.median(written):.2f}"
    print(f"| {arguments.epochs} | 8 | 28 | {size:.2f} | {took} | {shown} |")


def write_run(folder: Path, epochs: int, drift: float = 0.05) -> None:
    """A run folder as a DARTS search of so many epochs leaves it, its alphas on a random walk."""
    folder.mkdir(parents=True, exist_ok=True)
    space, generator = SearchSpace.named("darts"), torch.Generator().manual_seed(0)
    logits = {kind: torch.zeros(len(c.edges), 8) for kind, c in space.cells.items()}
    lines: list[dict[str, Any]] = []
    for epoch in range(epochs):
        for rows in logits.values():
            rows += drift * torch.randn(rows.shape, generator=generator)
        mixture = Mixture({kind: CellMixture(rows.softmax(-1)) for kind, rows in logits.items()})
        shares = {kind: cell.ops.numpy() for kind, cell in mixture.items()}
        view = SearchView(space, shares, ArgMax()(mixture, space))
        names = ("train/loss", "arch/loss", "validation/loss", "train/accuracy", "arch/accuracy")
        names += ("validation/accuracy", "entropy/normal", "entropy/reduce", "search/skip_share")
        names += ("search/learning_rate", "search/tau", "search/eigenvalue", "penalty/cost")
        noise = torch.rand(len(names), generator=generator).tolist()
        metrics = {n: v / (1 + epoch) for n, v in zip(names, noise, strict=True)}
        told = {"epoch": epoch, "seconds": 60.0, "peak_memory_bytes": 2**30, "device": "CPU"}
        lines.append({**told, **metrics, **alphas_line(view)})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "config.yaml").write_text(yaml.safe_dump({"epochs": epochs}))
    (folder / "overrides.yaml").write_text("[method=darts]\n")
    result = {"kind": "search", "genotype": lines[-1]["genotype"], "seconds": 60.0 * epochs}
    (folder / "result.json").write_text(json.dumps(result))


def _opened(page: Path, repeats: int, browser: str | None) -> float | None:
    """Median seconds until all charts are drawn; None without playwright."""
    try:
        start = importlib.import_module("playwright.sync_api").sync_playwright
    except ImportError:
        return None
    times = []
    with start() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for _ in range(repeats):
            tab = chromium.new_page(bypass_csp=True)  # for the waiting
            begin = time.perf_counter()
            tab.goto(page.resolve().as_uri())
            tab.wait_for_function(DRAWN)
            times.append(time.perf_counter() - begin)
            tab.close()
        chromium.close()
    return statistics.median(times)
