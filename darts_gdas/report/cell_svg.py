"""The drawing of a cell on pages, whose colours are the page's."""

from collections.abc import Collection, Mapping

from darts_gdas.report.markup import Markup, element
from darts_gdas.report.wiring import BOX, PILL, State, Wire, wiring
from darts_gdas.space import CellGenotype, Genotype

THINNEST, WIDEST = 1.0, 7.0


def draw_cells(genotype: Genotype) -> list[Markup]:
    """All cells of a genotype, each under its name."""
    return [
        element("div", element("h3", f"{kind} cell"), draw_cell(cell, kind))
        for kind, cell in genotype.cells.items()
    ]


def draw_cell(
    cell: CellGenotype, kind: str, *, others: Collection[str] = (), widths: Mapping[str, float] = {}
) -> Markup:
    """A cell as SVG; it scrolls by itself where it is too wide.

    Args:
        cell: What is drawn.
        kind: The cell's name.
        others: Edges that the cell has not but might, shown as dots.
        widths: How wide lines are by edge, from 0 to 1.
    """
    drawn = wiring(cell, others)
    told = "; ".join(f"{wire.name}: {wire.label}" for wire in drawn.wires if wire.family)
    lines = [_line(wire, widths.get(wire.name, 0.1)) for wire in drawn.wires]
    marks = [_mark(wire, drawn.pill) for wire in drawn.wires]
    width, height = drawn.size
    picture = element(
        "svg", *lines, *marks, *map(_state, drawn.states), width=width + 4.0, role="img",
        viewBox=f"-2 -2 {width + 4:g} {height + 4:g}", aria_label=f"{kind} cell: {told}",
        class_="wiring",
    )  # fmt: skip
    label = f"drawing of the {kind} cell"
    return element("div", picture, class_="cell", tabindex=0, role="group", aria_label=label)


def _line(wire: Wire, width: float) -> Markup:
    (x, y), (_, low), (right, _) = wire.start, wire.end, wire.corner
    return element(
        "path", d=f"M{x:g} {y:g}H{right:g}V{low:g}", class_="wire" if wire.family else "wire cut",
        style=f"stroke-width: {THINNEST + (WIDEST - THINNEST) * width:.2f}", data_edge=wire.name,
    )  # fmt: skip


def _mark(wire: Wire, width: float) -> Markup:
    """What stands on an edge; the page's script changes it with the epoch."""
    x, y = wire.corner
    shape = {"x": x - width / 2, "y": y - PILL / 2, "width": width, "height": PILL}
    return element(
        "g", element("title", f"{wire.name.replace('->', ' to ')}: {wire.label or 'not taken'}"),
        element("circle", cx=x, cy=y, r=3.5, class_="dot"),
        element("rect", **shape, rx=PILL / 2, class_="pill"),
        element("text", wire.label, x=x, y=y + 4, class_="op"),
        class_=f"edge {wire.family.value if wire.family else 'cut'}", data_edge=wire.name,
    )  # fmt: skip


def _state(state: State) -> Markup:
    """A hook below says that the cell hands the state on."""
    x, y = state.at
    box = element("rect", x=x - BOX / 2, y=y - BOX / 2, width=BOX, height=BOX, rx=7, class_="box")
    hook = element("path", d=f"M{x - 5:g} {y + BOX / 2 + 2:g}l5 4l5 -4", class_="hook")
    name = element("text", state.name, x=x, y=y + 4, class_="op")
    style = "state entering" if state.is_input else "state"
    return element("g", *[hook] * state.is_output, box, name, class_=style)
