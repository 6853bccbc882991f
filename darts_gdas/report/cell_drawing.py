"""Drawings of genotypes as files: every operation a labelled box, as `wiring` places it."""

from pathlib import Path
from typing import BinaryIO

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from darts_gdas.report.text import FONT, FONT_SIZE, INK, PILLS, text_style, text_width
from darts_gdas.report.wiring import BOX, INCH, PILL, Point, wiring
from darts_gdas.runtime.files import write_atomically
from darts_gdas.space import CellGenotype, Genotype

MARGIN, HEADING = 0.1, 0.3  # inches
WIRE, OUTSIDE, NODE = "#75808C", ("#FFFFFF", "#2B3A4B", INK), ("#2B3A4B", "#2B3A4B", "#FFFFFF")


def draw_genotype(genotype: Genotype, *, title: str = "") -> Figure:
    """A figure of all cells of a genotype, one above the other, sized to its content.

    Uses no pyplot and no global state, so it works in any thread and without a display.
    """
    figure = Figure(facecolor="white")
    figure.set_layout_engine("none")
    panels = {kind: figure.add_axes((0, 0, 1, 1), label=kind) for kind in sorted(genotype.cells)}
    sizes = [_draw(genotype.cells[kind], axes) for kind, axes in panels.items()]
    widths = [text_width(f"{text} cell", FONT_SIZE + 6) + 2 * MARGIN for text in (title, *panels)]
    width = max(*widths, *(width for width, _ in sizes))
    y = height = sum(height + HEADING for _, height in sizes) + HEADING * bool(title)
    figure.set_size_inches(width, height)
    y -= HEADING * bool(title)
    figure.text(MARGIN / width, y / height, title, weight="bold", **text_style(FONT_SIZE + 4))
    for (kind, axes), (own_width, own_height) in zip(panels.items(), sizes, strict=True):
        y -= HEADING
        figure.text(MARGIN / width, y / height, f"{kind} cell", **text_style(FONT_SIZE + 1))
        y -= own_height
        axes.set_position((0, y / height, own_width / width, own_height / height))
    return figure


def save_drawing(figure: Figure, path: Path) -> None:
    """Write a figure as SVG or PNG, by the suffix; the file is replaced as a whole or not at all.

    The same drawing gives the same bytes. Settings of matplotlib change for the moment of writing,
    so let one thread at a time save.

    Raises:
        ValueError: If the suffix is neither .svg nor .png.
    """
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"a drawing is saved as .svg or .png, got {path.name!r}; rename it")
    meta = {"Date": None} if path.suffix == ".svg" else {}
    options = {"facecolor": "white", "transparent": False, "metadata": meta}

    def write(file: BinaryIO) -> None:
        with matplotlib.rc_context({"svg.hashsalt": "cells", "savefig.bbox": None}):
            figure.savefig(file, format=path.suffix[1:], dpi=200, **options)

    write_atomically(path, write)


def _draw(cell: CellGenotype, axes: Axes) -> Point:
    """Draw in pixels, y downwards; returns width and height in inches."""
    drawn, room = wiring(cell), MARGIN * INCH
    for wire in drawn.wires:
        x, y = zip(wire.start, wire.corner, wire.end, strict=True)
        axes.plot(x, y, color=WIRE, linewidth=1.3, marker="", linestyle="-", zorder=1)
    for wire in drawn.wires:
        assert wire.family is not None
        _box(axes, wire.name, wire.label, (*wire.corner, drawn.pill, PILL), PILLS[wire.family])
    for state in drawn.states:
        (x, y), look = state.at, OUTSIDE if state.is_input else NODE
        if state.is_output:
            axes.plot([x - 5, x, x + 5], [y + BOX / 2 + 2, y + BOX / 2 + 6, y + BOX / 2 + 2],
                      color=NODE[0], linewidth=1.3, marker="", linestyle="-")  # fmt: skip
        _box(axes, state.name, state.name, (x, y, BOX, BOX), look)
    width, height = drawn.size
    axes.set_axis_off()
    axes.set(xlim=(-room, width + room), ylim=(height + room, -room), aspect="equal")
    return (width + 2 * room) / INCH, (height + 2 * room) / INCH


def _box(
    axes: Axes,
    name: str,
    text: str,
    box: tuple[float, float, float, float],
    colours: tuple[str, str, str],
) -> None:
    """A rounded box with a text; `box` is middle, width and height."""
    (x, y, width, height), (fill, line, ink) = box, colours
    style = f"round,pad=0,rounding_size={7 if width == height else height / 2}"
    patch = FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height, boxstyle=style, label=name
    )
    patch.set(facecolor=fill, edgecolor=line, linewidth=1.0, zorder=3)
    axes.add_patch(patch)
    size = FONT_SIZE if width > BOX else FONT_SIZE - 1
    label = axes.text(x, y, text, family=FONT, size=size, color=ink, zorder=4)
    label.set(ha="center", va="center_baseline", parse_math=False, usetex=False)
