"""A ranking of untrained cells as scatter plots, a CSV file and a table for the terminal.

Knows numbers and names only; what they mean is the caller's.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from darts_gdas.report.text import FONT, FONT_SIZE, INK

PANEL = 2.6  # inches
COLUMNS = 4
DOT = "#2F74AE"


def draw_scores(
    scores: Mapping[str, Sequence[float]], against: Sequence[float], label: str
) -> Figure:
    """One panel per score: every cell a dot, the score from left to right, `against` upwards.

    Args:
        scores: Values by name; infinite ones are left out.
        against: What the scores are held against, one number per cell, for example accuracies.
        label: What those numbers are.

    Raises:
        ValueError: If a score has another number of values, or there is no score.
    """
    if not scores or any(len(values) != len(against) for values in scores.values()):
        lengths = {name: len(values) for name, values in scores.items()}
        raise ValueError(f"every score needs {len(against)} values, one per cell, got {lengths}")
    columns = min(COLUMNS, len(scores))
    rows = math.ceil(len(scores) / columns)
    figure = Figure((PANEL * columns, PANEL * rows), facecolor="white")
    figure.set_layout_engine("constrained")
    y = np.asarray(against, dtype=float)
    for i, (name, values) in enumerate(scores.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        x = np.asarray(values, dtype=float)
        shown = np.isfinite(x) & np.isfinite(y)
        axes.scatter(x[shown], y[shown], s=9, color=DOT, alpha=0.6, linewidths=0)
        axes.set_xlabel(name, family=FONT, size=FONT_SIZE, color=INK, parse_math=False)
        if i % columns == 0:
            axes.set_ylabel(label, family=FONT, size=FONT_SIZE, color=INK, parse_math=False)
        axes.tick_params(labelsize=FONT_SIZE - 2)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def csv_text(columns: Mapping[str, Sequence[object]]) -> str:
    """Columns of equal length as CSV with a header line.

    Raises:
        ValueError: If their lengths differ.
    """
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError(
            f"columns must be of one length, got { {k: len(v) for k, v in columns.items()} }"
        )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return out.getvalue()


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in plain text: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * len(lines[0].ljust(sum(widths) + 2 * (len(widths) - 1))))
    return lines
