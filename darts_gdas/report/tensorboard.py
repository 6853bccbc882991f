"""TensorBoard: scalars of any run, and how a search's alphas move."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[attr-defined]
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

from darts_gdas.report.budget import Budget
from darts_gdas.report.cell_drawing import draw_genotype
from darts_gdas.report.heatmap import draw_cell_probabilities
from darts_gdas.report.view import SearchView, edge_name, leads
from darts_gdas.runtime.files import write_atomically
from darts_gdas.runtime.task import Callback, EpochReport, Progress
from darts_gdas.space import CellSpace

LAYOUT = "custom_scalars__config__"
"""The tag of `add_custom_scalars`, which is written at every start."""

DRAWING, MOST_DRAWINGS = 0.05, 25
"""Share of the run's time for pictures, and about how many times it is drawn at most.

One takes as long as some training steps on digits. TensorBoard shows about ten of each.
"""

CURVES = {"accuracy": "^[a-z]+/accuracy$", "loss": "^[a-z]+/loss$"}
OF_SEARCHES = {
    "entropy: 1 is undecided": "^entropy/",
    "skip connections, share": "^search/skip_share$",
}
OF_RETRAININGS = {"learning rate": "^train/learning_rate$", "drop-path": "^train/drop_path$"}
"""Charts that stand first, by title: curves by regular expressions of their tags."""


class TensorBoard(Callback):
    """Scalars of every epoch; with a view, also probabilities, histograms and drawings.

    Steps are training steps. The page "custom scalars" begins with what matters, of a search the
    leads: by how much the first candidate of each edge exceeds the next. Below stands one chart per
    edge with one curve per candidate, grouped by kind; histograms show the alphas. The cells and
    heat maps of the probabilities are drawn about `MOST_DRAWINGS` times, less often where epochs
    are short, and at the end. A resumed run drops what was written after its checkpoint. What is
    known at the end alone is in `report/outcome.py`.

    Args:
        folder: Where the events go.
        view: Gives the search's present view; None for a run without alphas.
        budget: How much time drawing may take, by default `DRAWING`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        view: Callable[[], SearchView] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.folder = folder
        self.view = view
        self.budget = budget or Budget(DRAWING)
        self._undrawn: tuple[SearchView, int] | None = None
        self.writer: SummaryWriter | None = None

    def on_start(self, progress: Progress) -> None:
        """Open the events; add the layout of the charts.

        What stands in older files from the purge step on is dropped, in the files: readers do so
        by themselves, but not with texts. That holds for a new run too: it may be one that was
        killed before its first checkpoint.
        """
        purge = progress.epoch * progress.steps_per_epoch + 1
        _drop(self.folder, purge)
        self.writer = SummaryWriter(str(self.folder), purge_step=purge)
        self.writer.add_custom_scalars(_layout(None if self.view is None else self.view()))

    def on_epoch_end(self, report: EpochReport) -> None:
        """Write everything of this epoch and flush it to the disc."""
        assert self.writer is not None
        for name, value in report.metrics.items():
            self.writer.add_scalar(name, value, report.step)
        self.writer.add_scalar("time/seconds_per_epoch", report.seconds, report.step)
        if self.view is not None:
            view = self.view()
            self._write_probabilities(self.writer, view, report.step)
            for kind, values in view.alphas.items():
                there = values[~np.isnan(values)]
                self.writer.add_histogram(f"alphas_of_{kind}", there, report.step)
            self._undrawn = (view, report.step)
            every = math.ceil(report.num_epochs / MOST_DRAWINGS)
            if self.budget.is_due and report.epoch % every == 0:
                self._draw()
            self.writer.add_text("genotype", f"```\n{view.genotype.to_json()}```", report.step)
        self.writer.flush()

    def on_stop(self) -> None:
        """Draw where the search stands, if that is not drawn yet; close the events."""
        if self.writer is not None:
            self._draw()
            self.writer.close()

    @staticmethod
    def _write_probabilities(writer: SummaryWriter, view: SearchView, step: int) -> None:
        for kind, cell in view.space.cells.items():
            probabilities = view.probabilities[kind]
            for edge, names in enumerate(cell.candidates):
                for name, value in zip(names, probabilities[edge], strict=False):
                    writer.add_scalar(_tag(kind, cell, edge, name), float(value), step)
            for edge, value in enumerate(leads(cell, probabilities)):
                if not np.isnan(value):
                    writer.add_scalar(_lead_tag(kind, cell, edge), float(value), step)
            for edge, value in enumerate(view.edge_weights.get(kind, ())):
                writer.add_scalar(_edge_tag(kind, cell, edge), float(value), step)

    def _draw(self) -> None:
        if self._undrawn is None:
            return
        assert self.writer is not None
        (view, step), self._undrawn = self._undrawn, None
        with self.budget.spend():
            figure = draw_genotype(view.genotype)
            self.writer.add_figure("genotype", figure, step, close=False)
            for kind, cell in view.space.cells.items():
                title = f"{kind} cell"
                figure = draw_cell_probabilities(cell, view.probabilities[kind], title=title)
                self.writer.add_figure(f"alphas/{kind}", figure, step, close=False)


def write_page(folder: Path, tag: str, csv: str, figures: Mapping[str, Figure]) -> None:
    """A table and one figure per kind of cell, at step 0.

    Args:
        folder: Where the events go.
        tag: The page's name in TensorBoard.
        csv: The table, its first line the header.
        figures: By kind.
    """
    lines = [f"| {' | '.join(line.split(','))} |" for line in csv.splitlines()]
    lines.insert(1, "|---" * (lines[0].count("|") - 1) + "|")
    for earlier in folder.glob(f"events*.{tag}"):
        earlier.unlink()
    with SummaryWriter(str(folder), filename_suffix=f".{tag}") as writer:
        writer.add_text(tag, "\n".join(lines), 0)
        for kind, figure in figures.items():
            writer.add_figure(f"{tag}/{kind}", figure, 0, close=False)


def _drop(folder: Path, step: int) -> None:
    """Take out of a folder's event files what stands at a step or later, and the charts' layout."""
    for path in folder.glob("events*"):
        records = list(RawEventFileLoader(str(path)).Load())  # up to one that was cut off
        kept = [record for record in records if _stays(Event.FromString(record), step)]
        if len(kept) < len(records):
            write_atomically(path, partial(_write_records, kept))


def _stays(event: Event, step: int) -> bool:
    return event.step < step and all(value.tag != LAYOUT for value in event.summary.value)


def _write_records(records: Sequence[bytes], file: BinaryIO) -> None:
    writer = RecordWriter(file)
    for record in records:
        writer.write(record)


def _tag(kind: str, cell: CellSpace, edge: int, name: str) -> str:
    return f"probability_{kind}/{edge_name(cell, edge)}/{name}"


def _edge_tag(kind: str, cell: CellSpace, edge: int) -> str:
    return f"edge_weight_{kind}/{edge_name(cell, edge)}"


def _lead_tag(kind: str, cell: CellSpace, edge: int) -> str:
    return f"lead_{kind}/{edge_name(cell, edge)}"


def _layout(view: SearchView | None) -> dict[str, dict[str, list[object]]]:
    """What matters; then a group per kind, one multi-line chart per edge and one of the edges."""
    first = CURVES | (OF_RETRAININGS if view is None else OF_SEARCHES)
    if view is not None:
        leading = {f"leads in the {kind} cell": f"^lead_{kind}/" for kind in view.space.cells}
        first = leading | first
    charts = {"overview": {title: _lines(tags) for title, tags in first.items()}}
    if view is None:
        return charts
    for kind, cell in view.space.cells.items():
        charts[f"{kind} cell"] = {
            edge_name(cell, edge): _lines(*(f"^{_tag(kind, cell, edge, name)}$" for name in names))
            for edge, names in enumerate(cell.candidates)
        }
        if kind in view.edge_weights:
            tags = (f"^{_edge_tag(kind, cell, edge)}$" for edge in range(len(cell.edges)))
            charts[f"{kind} cell"]["edge weights"] = _lines(*tags)
    return charts


def _lines(*tags: str) -> list[object]:
    return ["Multiline", [*tags]]
