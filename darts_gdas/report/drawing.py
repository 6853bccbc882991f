"""The drawing of a genotype as small SVG whose colours and text are the page's."""

import functools
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, PathPatch

from darts_gdas.report.cell_drawing import MARGIN, draw_genotype
from darts_gdas.report.markup import Markup, element
from darts_gdas.space import CellGenotype, Genotype, family_of

SCALE = 80.0  # pixels per inch of the drawing


@functools.lru_cache(maxsize=8)
def draw_cells(genotype: Genotype) -> Mapping[str, Markup]:
    """One SVG per kind of cell, laid out as by `draw_genotype`."""
    figure = draw_genotype(genotype)
    kinds = {str(axes.get_label()): axes for axes in figure.axes}
    return {kind: _cell(kind, genotype.cells[kind], axes) for kind, axes in kinds.items()}


def _cell(kind: str, cell: CellGenotype, axes: Axes) -> Markup:
    limits = axes.dataLim.padded(MARGIN)
    left, top = SCALE * limits.x0, SCALE * limits.y0
    width, height = SCALE * limits.width, SCALE * limits.height
    patches = sorted(axes.patches, key=lambda patch: patch.get_zorder())
    wires = [_wire(patch) for patch in patches if isinstance(patch, PathPatch)]
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    drawn = [
        part
        for box, text in zip(boxes, axes.texts, strict=True)
        for part in _box(cell, box, text.get_text())
    ]
    return element(
        "svg", *wires, *drawn, viewBox=f"{left:.1f} {top:.1f} {width:.1f} {height:.1f}",
        width=round(width), height=round(height), role="img", aria_label=f"{kind} cell",
    )  # fmt: skip


def _wire(patch: PathPatch) -> Markup:
    pairs = [f"{SCALE * x:.1f} {SCALE * y:.1f}" for x, y in patch.get_path().vertices.tolist()]  # type: ignore[union-attr]
    pieces = (pairs[i : i + 4] for i in range(0, len(pairs), 4))
    path = " ".join(f"M{a} C{b} {c} {d}" for a, b, c, d in pieces)
    return element("path", d=path, class_="rim" if patch.get_label() == "rim" else "wire")


def _box(cell: CellGenotype, box: FancyBboxPatch, text: str) -> list[Markup]:
    what, state, *port = str(box.get_label()).split()
    index, inside = int(state), box.get_bbox()
    style = "outside"
    if what == "edge":
        op = cell.nodes[index - cell.num_inputs][int(port[0])].op
        style = family_of(op).value
        label = [text]
    elif index < cell.num_inputs:
        label = ["c", _lowered(f"k-{cell.num_inputs - index}")]
    elif index < cell.num_inputs + len(cell.nodes):
        style, label = "node", [text]
    else:
        label = ["c", _lowered("k")]
    x, y, width, height = (
        SCALE * length for length in (inside.x0, inside.y0, inside.width, inside.height)
    )
    return [
        element("rect", x=x, y=y, width=width, height=height, rx=10, class_=f"box {style}"),
        element("text", *label, x=x + width / 2, y=y + height / 2 + 3.5, class_=f"op {style}"),
    ]


def _lowered(text: str) -> Markup:
    return element("tspan", text, dy="3", font_size="8")
