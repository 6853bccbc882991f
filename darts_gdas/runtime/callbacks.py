"""Followers of a run that know nothing about the task: the terminal and `metrics.jsonl`."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from darts_gdas.runtime.files import write_text
from darts_gdas.runtime.meter import Meter
from darts_gdas.runtime.task import Callback, EpochReport, Progress


class Console(Callback):
    """A progress bar on a terminal, one plain line per epoch everywhere.

    Args:
        columns: Metrics to show, by their short names.
        stream: Where to, by default stderr; a bar appears only if it is a terminal.
    """

    def __init__(self, columns: Mapping[str, str], stream: TextIO | None = None) -> None:
        self.columns = columns
        self.stream = sys.stderr if stream is None else stream
        self.bar: tqdm | None = None
        self.began = 0.0

    def on_start(self, progress: Progress) -> None:
        """Open the bar; nothing happens where the output is a file."""
        self.began = time.monotonic()
        if self.stream.isatty() and progress.epoch < progress.num_epochs:
            self.bar = tqdm(
                total=progress.num_epochs * progress.steps_per_epoch,
                initial=progress.global_step,
                unit="step",
                file=self.stream,
                dynamic_ncols=True,
                leave=False,
            )

    def on_step(self, progress: Progress, meter: Meter) -> None:
        """Move the bar by one step."""
        if self.bar is not None:
            epoch = min(progress.epoch + 1, progress.num_epochs)
            self.bar.set_description(f"epoch {epoch}/{progress.num_epochs}", refresh=False)
            self.bar.update()

    def on_epoch_end(self, report: EpochReport) -> None:
        """One line: epoch, metrics, seconds."""
        width = len(str(report.num_epochs))
        cells = [
            f"{label} {_format(name, report.metrics[name])}"
            for label, name in self.columns.items()
            if name in report.metrics
        ]
        mark = " *" if report.is_best else ""
        line = (
            f"epoch {report.epoch + 1:{width}}/{report.num_epochs}  {'  '.join(cells)}  "
            f"({report.seconds:.1f} s){mark}"
        )
        if self.bar is not None:
            self.bar.write(line, file=self.stream)
        else:
            print(line, file=self.stream, flush=True)

    def on_stop(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()


def _format(name: str, value: float) -> str:
    return f"{100 * value:6.2f} %" if "accuracy" in name else f"{value:.4f}"


class MetricsFile(Callback):
    """One JSON object per epoch in `metrics.jsonl`; a resumed run goes on where it stood.

    Args:
        path: Of the file.
        details: What else an epoch's line holds: plain values, lists and objects.
    """

    def __init__(self, path: Path, details: Callable[[], Mapping[str, Any]] | None = None) -> None:
        self.path = path
        self.details = details

    def on_start(self, progress: Progress) -> None:
        """Drop the lines of epochs that will be run again."""
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if _epoch_of(line) in range(progress.epoch)]
            write_text(self.path, "".join(f"{line}\n" for line in kept))

    def on_epoch_end(self, report: EpochReport) -> None:
        """Append a line and hand it to the operating system."""
        record = {
            "epoch": report.epoch,
            "step": report.step,
            "seconds": round(report.seconds, 3),
            "best": report.is_best,
            **report.metrics,
            **({} if self.details is None else self.details()),
        }
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _epoch_of(line: str) -> int:
    """Epoch of a line; -1 for one that a crash cut off or that is none of ours."""
    try:
        return json.loads(line)["epoch"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return -1
