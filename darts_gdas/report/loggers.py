"""Figures of a run for the loggers of others, which may fail without harm to the run."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darts_gdas.reasons import reason
from darts_gdas.report.logger import Logged, Logger, Sink
from darts_gdas.report.numbers import is_number
from darts_gdas.report.outcome import closing_figures
from darts_gdas.report.record import read_record
from darts_gdas.report.runs import flat
from darts_gdas.runtime.files import write_text
from darts_gdas.runtime.task import Callback, EpochReport, Progress

logger = logging.getLogger(__name__)

MEMORY = "loggers.json"
"""In a run's folder: by the logger's name, where its figures have gone."""


@dataclass
class Loggers(Callback):
    """Sends metrics after every epoch, and the outcome; a context that closes what it has opened.

    A resumed run goes on in the logger's run: points that it holds are not sent again, those that
    it lacks are. A logger that fails is left out from
    there on, with one warning.

    Args:
        chosen: The loggers by their names.
        folder: The run's folder.
        outputs: The folder below which all runs go.
        kind: "search" or "train".
        config: The whole configuration.
    """

    chosen: Mapping[str, Logger]
    folder: Path
    outputs: Path
    kind: str
    config: Mapping[str, Any]
    _sinks: dict[str, Sink] = field(default_factory=dict, init=False)
    _is_finished: bool = field(default=False, init=False)

    def __enter__(self) -> "Loggers":
        return self

    def __exit__(self, *_: object) -> None:
        for name, sink in list(self._sinks.items()):
            with self._attempt(name):
                sink.close(is_finished=self._is_finished)

    def on_start(self, progress: Progress) -> None:
        """Open all loggers: a run that begins at its first step is a new one."""
        if not self.chosen:
            return
        memory = _read(self.folder / MEMORY) if progress.global_step else {}
        settings, points = dict(flat(self.config)), self._points(progress)
        for name, chosen in self.chosen.items():
            run = Logged(self.folder, self.outputs, self.kind, settings, memory.get(name))
            with self._attempt(name):
                sink = self._sinks[name] = chosen.open(run)
                memory[name] = dict(sink.memory)
                for step, metrics in points:
                    self._send(sink, step, metrics)
        with contextlib.suppress(OSError):  # files that matter more will say so
            write_text(self.folder / MEMORY, json.dumps(memory, indent=2) + "\n")

    def _points(self, progress: Progress) -> list[tuple[int, dict[str, float]]]:
        """What a resumed run has been through: a logger may have lost it, or be new."""
        if progress.epoch == 0 or not (self.folder / "metrics.jsonl").exists():
            return []
        record = read_record(self.folder)
        return [
            (int(line["step"]), _point(line["epoch"], line["seconds"], {n: line[n] for n in names}))
            for line in record.lines
            if line["epoch"] < progress.epoch
            and is_number(line.get("step"))
            and is_number(line.get("seconds"))
            and (names := [name for name in record.metrics if name in line])
        ]

    def on_epoch_end(self, report: EpochReport) -> None:
        """Send the epoch's metrics."""
        point = _point(report.epoch, report.seconds, report.metrics)
        for name, sink in list(self._sinks.items()):
            with self._attempt(name):
                self._send(sink, report.step, point)

    @staticmethod
    def _send(sink: Sink, step: int, point: Mapping[str, float]) -> None:
        """Add a point, unless the logger holds it."""
        if step > sink.last_step:
            sink.log(point, step)

    def conclude(self) -> None:
        """Send the outcome, after `result.json` is written."""
        if not self._sinks:
            return
        record = read_record(self.folder)
        if not record.result:
            return
        figures = {f"final/{name}": v for name, v in closing_figures(record.result).items()}
        figures = {name: value for name, value in figures.items() if is_number(value)}
        genotype = "" if record.genotype is None else record.genotype.to_json()
        step = int(record.last.get("step", 0))
        for name, sink in list(self._sinks.items()):
            with self._attempt(name):
                sink.finish(figures, genotype, step)
        self._is_finished = True

    @contextlib.contextmanager
    def _attempt(self, name: str) -> Iterator[None]:
        """Around all that a logger does, which is code of others."""
        try:
            yield
        except Exception as error:  # whatever it is, the run is worth more
            self._sinks.pop(name, None)
            why = reason(error, named=True)
            logger.warning("the run goes on without logger=[%s]: %s", name, why)


def _point(epoch: int, seconds: float, metrics: Mapping[str, float]) -> dict[str, float]:
    return {**metrics, "epoch": epoch + 1, "time/seconds_per_epoch": seconds}


def _read(path: Path) -> dict[str, Any]:
    """What was remembered; nothing where that is not there or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = found if isinstance(found, dict) else {}
    return {name: value for name, value in known.items() if isinstance(value, dict)}
