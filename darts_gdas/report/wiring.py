"""Where everything of a cell is drawn: states on a diagonal, an edge where its two states cross.

A line runs from a state to the right, and down to the node that reads it; what stands on the edge
is at the corner. Every edge has one place, whatever its operation is, so the epochs of a search can
be looked through without anything jumping, and no drawing has to be untangled.
"""

from collections.abc import Collection
from typing import NamedTuple

from darts_gdas.report.alphas import edge_of, state_of
from darts_gdas.report.text import FONT_SIZE, operation_label, text_width
from darts_gdas.space import CellGenotype, Family, family_of

INCH = 80.0  # all lengths but this one are in pixels
ROW, BOX, PILL, FIRST = 38.0, 26.0, 24.0, 36.0
"""Height of a row, sides of a state, height of an operation, width of an input's column."""

NARROWEST, ROOM, GAP = 72.0, 20.0, 10.0
"""Of an operation's box: its least width, the room beside its text, that between two."""

Point = tuple[float, float]


class State(NamedTuple):
    """An input or a node: what it is called, its middle, and whether the cell hands it on."""

    name: str
    at: Point
    is_input: bool
    is_output: bool


class Wire(NamedTuple):
    """An edge: its name as in `metrics.jsonl`, the points of its line, and what it holds."""

    name: str
    start: Point
    corner: Point
    end: Point
    label: str
    family: Family | None


class Wiring(NamedTuple):
    """A cell with all its places.

    Attributes:
        states: Inputs, then nodes.
        wires: The edges; those without an operation first, so that others lie above them.
        pill: Width of an operation's box.
        size: Width and height of it all.
    """

    states: list[State]
    wires: list[Wire]
    pill: float
    size: Point


def wiring(cell: CellGenotype, others: Collection[str] = ()) -> Wiring:
    """The places of a cell.

    Args:
        cell: What is drawn; a node that reads a state twice has both operations in one box.
        others: Edges that the cell has not but might; they hold nothing.
    """
    inputs, size = cell.num_inputs, cell.num_inputs + len(cell.nodes)
    ops: dict[str, list[str]] = {}
    for node, edges in enumerate(cell.nodes):
        for edge in edges:
            ops.setdefault(edge_of(edge.source, node, inputs), []).append(edge.op)
    labels = {name: " + ".join(map(operation_label, found)) for name, found in ops.items()}
    widest = max(INCH * text_width(label, FONT_SIZE) for label in labels.values()) + ROOM
    pill = max(widest, NARROWEST)
    x = [FIRST * (s + 0.5) for s in range(inputs)]
    x += [FIRST * inputs + (pill + GAP) * (n + 0.5) for n in range(len(cell.nodes))]
    places = [(x[s], ROW * (s + 0.5)) for s in range(size)]
    states = [
        State(state_of(s, inputs), places[s], s < inputs, s in cell.output) for s in range(size)
    ]
    wires = []
    for source, node in ((s, n) for n in range(len(cell.nodes)) for s in range(inputs + n)):
        name, (left, top), (right, low) = (
            edge_of(source, node, inputs),
            places[source],
            places[inputs + node],
        )
        if name in ops or name in others:
            start, end = (left + BOX / 2, top), (right, low - BOX / 2)
            family = family_of(ops[name][0]) if name in ops else None
            wires.append(Wire(name, start, (right, top), end, labels.get(name, ""), family))
    wires.sort(key=lambda wire: wire.family is not None)
    return Wiring(
        states, wires, pill, (FIRST * inputs + (pill + GAP) * len(cell.nodes), ROW * size)
    )
