"""A follower of a run that knows nothing about the task: `metrics.jsonl`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from darts_gdas.runtime.files import write_text
from darts_gdas.runtime.task import Callback, EpochReport, Progress


class MetricsFile(Callback):
    """One JSON object per epoch in `metrics.jsonl`; a resumed run goes on where it stood.

    Args:
        path: The file to write.
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
