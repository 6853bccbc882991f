"""A heat map of the operation probabilities of one kind of cell, as a search moves them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from darts_gdas.report.text import FONT, FONT_SIZE, INK, operation_label, text_style, text_width
from darts_gdas.space import CellSpace

COLUMN, ROW, NAME, BAR, MARGIN, HEADING = 0.52, 0.27, 0.9, 0.12, 0.12, 0.32  # inches
SLANT = 40.0  # degrees, of the candidates' names
SHADES = colormaps["Blues"]  # from white to dark: readable in print and without colour vision
LINE = "#75808C"


def draw_probabilities(
    probabilities: np.ndarray,
    edges: Sequence[tuple[int, int]],
    candidates: Sequence[str],
    *,
    num_inputs: int = 2,
    title: str = "",
) -> Figure:
    """A table of probabilities: one row per edge, one column per candidate, shaded from 0 to 1.

    The shades mean the same in every figure, so that the epochs of a search compare. The largest
    value of a row is bold; lines part the edges into different nodes. Uses no pyplot and no
    global state, so it works in any thread and without a display.

    Args:
        probabilities: Shape `edges x candidates`; nan where an edge lacks a candidate: blank.
        edges: The (node, source) pair of each row, as in `CellSpace.edges`.
        candidates: Operation name of each column.
        num_inputs: Number of states that enter the cell; sources count them first.
        title: The title above the panels.

    Raises:
        ValueError: If the shapes disagree, or a number is no probability.
    """
    values = np.asarray(probabilities, dtype=float)
    _check(values, edges, candidates)
    names = [operation_label(name) for name in candidates]
    longest, slant = max(text_width(name, FONT_SIZE) for name in names), math.radians(SLANT)
    right, bottom = NAME + COLUMN * len(names), ROW * len(edges)
    lean = max(0.0, longest * math.cos(slant) - COLUMN / 2)  # of the last name, over the edge
    width = max(right + max(lean, 4.5 * BAR) + MARGIN, text_width(title, FONT_SIZE + 6) + MARGIN)
    top = longest * math.sin(slant) + 2 * MARGIN + HEADING * bool(title)
    figure = Figure((width, top + bottom + MARGIN), facecolor="white")
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _draw_table(axes, values)
    _draw_names(axes, edges, names, num_inputs=num_inputs)
    _draw_scale(axes, right + BAR, min(bottom, 8 * ROW))
    style = text_style(FONT_SIZE + 4)
    axes.text(MARGIN, MARGIN - top, title, weight="bold", va="top", **style)
    axes.set(xlim=(0, width), ylim=(bottom + MARGIN, -top))
    return figure


def draw_cell_probabilities(cell: CellSpace, probabilities: np.ndarray, *, title: str) -> Figure:
    """`draw_probabilities` of a cell; candidates that its edges lack are blank.

    Where edges differ in their candidates, the columns are named by positions.
    """
    values = np.array(probabilities, dtype=float)
    for edge, names in enumerate(cell.candidates):
        values[edge, len(names) :] = np.nan
    same = len(set(cell.candidates)) == 1
    columns = [f"candidate {i}" for i in range(cell.num_candidates)]
    return draw_probabilities(
        values,
        cell.edges,
        cell.candidates[0] if same else columns,
        num_inputs=cell.num_inputs,
        title=title,
    )


def _check(values: np.ndarray, edges: Sequence[tuple[int, int]], candidates: Sequence[str]) -> None:
    shape = (len(edges), len(candidates))
    if values.shape != shape or 0 in shape:
        raise ValueError(
            "probabilities need one row per edge and one column per candidate, "
            f"{shape} here and at least (1, 1), got {values.shape}"
        )
    low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
    if low < 0.0 or high > 1.0 + 1e-6:
        raise ValueError(
            f"probabilities lie in 0..1, got {low:g}..{high:g}; "
            "pass them after the softmax, with nan for an absent candidate"
        )


def _draw_table(axes: Axes, values: np.ndarray) -> None:
    """The shaded numbers, in inches from the table's top left corner, y downwards."""
    rows, columns = values.shape
    x, y = NAME + COLUMN * np.arange(columns + 1), ROW * np.arange(rows + 1)
    shown = np.ma.masked_invalid(values)
    axes.pcolormesh(x, y, shown, cmap=SHADES, vmin=0, vmax=1, edgecolors="white", linewidth=1.0)
    for row, column in np.argwhere(~np.isnan(values)):
        value = values[row, column]
        red, green, blue, _ = SHADES(value)
        luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        axes.text(
            x[column] + COLUMN / 2,
            y[row] + ROW / 2,
            f"{value:.2f}",
            family=FONT,
            size=FONT_SIZE - 1,
            weight="bold" if value == np.nanmax(values[row]) else "normal",
            color=INK if luminance > 0.45 else "white",
            ha="center",
            va="center_baseline",
            usetex=False,
        )


def _draw_names(
    axes: Axes, edges: Sequence[tuple[int, int]], names: Sequence[str], *, num_inputs: int
) -> None:
    style: dict[str, Any] = {"family": FONT, "size": FONT_SIZE, "color": INK, "usetex": False}
    for column, name in enumerate(names):
        label = axes.text(NAME + COLUMN * (column + 0.5), -MARGIN / 2, name, **style)
        label.set(rotation=SLANT, rotation_mode="anchor", ha="left", parse_math=False)
    for row, (node, source) in enumerate(edges):
        back = num_inputs - source
        state = f"c_{{k{{-}}{back}}}" if back > 0 else str(-back)
        text = rf"${state} \rightarrow {node}$"
        label = axes.text(NAME - MARGIN, ROW * (row + 0.5), text, **style)
        label.set(ha="right", va="center_baseline", math_fontfamily="dejavusans")
    starts = [row for row in range(1, len(edges)) if edges[row][0] != edges[row - 1][0]]
    for row in starts:
        right = NAME + COLUMN * len(names)
        axes.plot([MARGIN, right], [ROW * row] * 2, color=LINE, linewidth=0.8, marker="")


def _draw_scale(axes: Axes, left: float, height: float) -> None:
    """The shades and what they mean, at the right of the table, 1 above 0."""
    shades = np.linspace(1, 0, 101)[:, None]
    y = np.linspace(0, height, 102)
    axes.pcolormesh([left, left + BAR], y, shades, cmap=SHADES, vmin=0, vmax=1, linewidth=0)
    for value, place, anchor in ((1, 0.0, "top"), (0, height, "bottom")):
        label = axes.text(left + 1.5 * BAR, place, str(value), family=FONT, size=FONT_SIZE - 1)
        label.set(color=INK, va=anchor, usetex=False)
