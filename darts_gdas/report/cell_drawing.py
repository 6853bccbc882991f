"""Drawings of genotypes: every operation a labelled pill, every wire in a lane of its own.

A cell is drawn in columns, from its inputs at the left to its output at the right. A node stands
in the column after the last state that it reads, its operations stacked just left of it. A state
that is read further right passes the columns in between in a lane, a straight stretch away from
everything there. Wires bend only between columns, so none runs through a foreign box.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate, combinations, pairwise, permutations
from pathlib import Path
from typing import BinaryIO, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve

from darts_gdas.report.text import (
    FONT,
    FONT_SIZE,
    INK,
    PILLS,
    operation_label,
    text_style,
    text_width,
)
from darts_gdas.runtime.files import write_atomically
from darts_gdas.space import CellGenotype, Genotype, family_of

WIRE_WIDTH = 1.3  # points
BOX, PILL, INPUT, OUTPUT = 0.34, 0.27, 0.58, 0.44  # inches, as all lengths here
EFFORT = 80_000  # spent on untangling the wires
PITCH, PORT, LANE, SPACE, MERGE, MARGIN, HEADING = 0.36, 0.2, 0.1, 0.14, 0.4, 0.1, 0.3
WIRE = "#75808C"
OUTSIDE, NODE = ("#FFFFFF", "#2B3A4B", INK), ("#2B3A4B", "#2B3A4B", "#FFFFFF")
Piece = tuple[float, float, float, float]  # a curve from (x, y) to (x, y)


class Item(NamedTuple):
    """What a column holds: a state with the operations into it, or the lane of a passing state.

    Attributes:
        state: The state, numbered as in a genotype; the cell's output comes after the last node.
        sources: The states that are read here, one per port on the left. A lane reads itself.
        pitch: Vertical distance of the ports.
        height: Room that the item takes.
    """

    state: int
    sources: tuple[int, ...]
    pitch: float
    height: float

    @property
    def is_lane(self) -> bool:
        """Whether the state only passes by."""
        return self.state in self.sources

    def ports(self, y: float, left: Mapping[int, float]) -> list[tuple[int, float]]:
        """(index into `sources`, y) per port, in the order in which the wires arrive."""
        order = sorted(range(len(self.sources)), key=lambda i: (left[self.sources[i]], i))
        top = y - (len(order) - 1) / 2 * self.pitch
        return [(port, top + rank * self.pitch) for rank, port in enumerate(order)]


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


def _columns(cell: CellGenotype) -> list[list[Item]]:
    """The items of each column, in order of their states."""
    reads = [()] * cell.num_inputs + [tuple(edge.source for edge in edges) for edges in cell.nodes]
    rooms = [len(sources) * PITCH if sources else 2 * BOX for sources in reads]
    items = [Item(state, reads[state], PITCH, room) for state, room in enumerate(rooms)]
    items.append(Item(len(reads), cell.output, PORT, max(BOX, len(cell.output) * PORT)))
    depth: list[int] = []
    for sources in reads:
        depth.append(1 + max((depth[source] for source in sources), default=-1))
    depth.append(1 + max(depth))
    columns: list[list[Item]] = [[] for _ in range(depth[-1] + 1)]
    for item in items:
        columns[depth[item.state]].append(item)
        last = max((depth[r.state] for r in items if item.state in r.sources), default=0)
        for passed in range(depth[item.state] + 1, last):
            columns[passed].append(Item(item.state, (item.state,), 0.0, LANE))
    return columns


def _spread(column: Sequence[Item], goals: Mapping[int, tuple[float, float]]) -> dict[int, float]:
    """Heights nearest to the (height, weight) goals without overlap, by isotonic regression."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    steps = [(a.height + b.height) / 2 + SPACE for a, b in pairwise(column)]
    above = [0.0, *accumulate(steps)]  # least distance of each item from the first
    for item, distance in zip(column, above, strict=True):
        goal, weight = goals.get(item.state, (0.0, 1.0))
        mean, members = goal - distance, 1
        while pools and pools[-1][0] >= mean:
            other, heavier, more = pools.pop()
            mean = (other * heavier + mean * weight) / (heavier + weight)
            weight, members = weight + heavier, members + more
        pools.append((mean, weight, members))
    means = [mean for mean, _, members in pools for _ in range(members)]
    return {i.state: m + d for i, m, d in zip(column, means, above, strict=True)}


def _tangle(left: Sequence[Item], right: Sequence[Item]) -> float:
    """How confused the wires between two columns look: their crossings, then their steepness."""
    starts, ends = _spread(left, {}), _spread(right, {})
    wires = [
        (starts[item.sources[port]], y)
        for item in right
        for port, y in item.ports(ends[item.state], starts)
    ]
    crossings = sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(wires, 2))
    return crossings + 0.2 * sum(abs(a - b) for a, b in wires)


def _untangle(columns: list[list[Item]]) -> list[list[Item]]:
    """Reorder all columns but the inputs: the best of several descents from random orders.

    A large cell gets fewer descents, a very large one none: drawing takes a second at most.
    """
    ports = (sum(len(item.sources) for item in column) for column in columns)
    work = sum((len(c) * p) ** 2 for c, p in zip(columns, ports, strict=True))
    descents = min(EFFORT // max(work, 1), 16)
    if descents == 0:
        return columns
    rng = random.Random(0)
    trials = [columns]
    for _ in range(descents - 1):
        trials.append([columns[0], *(rng.sample(c, len(c)) for c in columns[1:])])
    for trial in trials:
        _descend(trial)
    return min(trials, key=lambda trial: sum(_tangle(*pair) for pair in pairwise(trial)))


def _descend(columns: Sequence[list[Item]]) -> None:
    """Move items within their columns, one at a time, while that helps."""
    improved = True
    while improved:
        improved = False
        for left, column, right in zip(columns, columns[1:], columns[2:], strict=False):
            least = _tangle(left, column) + _tangle(column, right)
            for start, end in permutations(range(len(column)), 2):
                trial = column.copy()
                trial.insert(end, trial.pop(start))
                tangle = _tangle(left, trial) + _tangle(trial, right)
                if tangle < least - 1e-6:
                    column[:], least, improved = trial, tangle, True


def _place(columns: Sequence[Sequence[Item]]) -> list[dict[int, float]]:
    """The height of every state in every column that makes the wires as straight as possible.

    Minimises the weighted sum of |vertical steps|, by iteratively reweighted least squares.
    """
    places = [_spread(column, {}) for column in columns]
    wires = [  # column, source, reader, height of the port above the reader's middle, weight
        (index, item.sources[port], item.state, offset, 4.0 if item.is_lane else 1.0)
        for index, column in enumerate(columns[1:], 1)
        for item in column
        for port, offset in item.ports(0.0, places[index - 1])
    ]
    for sweep in range(80):
        for index, column in enumerate(columns):
            sums = {item.state: [0.0, 1e-3] for item in column}  # of weight * goal, of weight
            for end, source, reader, offset, weight in wires:
                if end in (index, index + 1):
                    start, stop = places[end - 1][source], places[end][reader] + offset
                    force = weight / (abs(start - stop) + 0.9**sweep)
                    state, goal = (reader, start - offset) if end == index else (source, stop)
                    sums[state][0] += force * goal
                    sums[state][1] += force
            places[index] = _spread(column, {s: (a / b, b) for s, (a, b) in sums.items()})
    return places


def _draw(cell: CellGenotype, axes: Axes) -> tuple[float, float]:
    """Draw in inches, y downwards; returns width and height."""
    columns = _untangle(_columns(cell))
    places = _place(columns)
    labels = {operation_label(edge.op) for edges in cell.nodes for edge in edges}
    pill = max(text_width(label, FONT_SIZE) for label in labels) + 0.24
    wires: dict[str, list[Piece]] = defaultdict(list)
    left, right, output = 0.0, INPUT, cell.num_inputs + len(cell.nodes)
    for state, y in places[0].items():
        text = f"$c_{{k{{-}}{cell.num_inputs - state}}}$"
        _box(axes, f"state {state}", text, (left, y, INPUT, BOX), OUTSIDE)
    for column, before, place in zip(columns[1:], places, places[1:], strict=False):
        ports = [(item, *port) for item in column for port in item.ports(place[item.state], before)]
        steepest = max(abs(before[item.sources[port]] - y) for item, port, y in ports)
        start, left = right, right + min(1.1, 0.35 + 0.3 * steepest)
        node, right = left + pill + MERGE, left + pill + MERGE + BOX
        for item, port, y in ports:
            source, middle = item.sources[port], place[item.state]
            wires[f"from {source}"].append((start, before[source], left, y))
            if item.is_lane:
                wires[f"from {source}"].append((left, y, right, y))
            elif item.state < output:
                op = cell.nodes[item.state - cell.num_inputs][port].op
                box, colours = (left, y, pill, PILL), PILLS[family_of(op)]
                _box(axes, f"edge {item.state} {port}", operation_label(op), box, colours)
                wires[f"into {item.state}"].append((left + pill, y, node, middle))
        for item in column:
            if not item.is_lane and item.state < output:
                number, box = str(item.state - cell.num_inputs), (node, place[item.state], BOX, BOX)
                _box(axes, f"state {item.state}", number, box, NODE)
    box = (left, places[-1][output], OUTPUT, columns[-1][0].height)
    _box(axes, f"state {output}", "$c_k$", box, OUTSIDE)
    for order, name in enumerate(sorted(wires)):
        _wire(axes, name, wires[name], 1 + order / 1000)
    limits = axes.dataLim.padded(MARGIN)
    axes.set_axis_off()
    axes.set(xlim=limits.intervalx, ylim=limits.intervaly[::-1], aspect="equal")
    return limits.width, limits.height


def _box(axes: Axes, name: str, text: str, box: Piece, colours: tuple[str, str, str]) -> None:
    """A rounded box with a text; `box` is left, middle, width and height."""
    (left, y, width, height), (fill, line, ink) = box, colours
    style, bottom = f"round,pad=0,rounding_size={PILL / 2}", y - height / 2
    patch = FancyBboxPatch((left, bottom), width, height, boxstyle=style, label=name)
    patch.set(facecolor=fill, edgecolor=line, linewidth=1.0, zorder=3)
    axes.add_patch(patch)
    label = axes.text(left + width / 2, y, text, family=FONT, size=FONT_SIZE, color=ink, zorder=4)
    label.set(ha="center", va="center_baseline", math_fontfamily="dejavusans", usetex=False)


def _wire(axes: Axes, name: str, pieces: Sequence[Piece], zorder: float) -> None:
    """Smooth curves, horizontal at both ends, with a white rim that parts them from those below."""
    vertices: list[tuple[float, float]] = []
    for x, y, end_x, end_y in dict.fromkeys(pieces):
        bend = (x + end_x) / 2
        vertices += [(x, y), (bend, y), (bend, end_y), (end_x, end_y)]
    curve = Curve(vertices, [Curve.MOVETO, *[Curve.CURVE4] * 3] * (len(vertices) // 4))
    for colour, width, label in (("white", 3 * WIRE_WIDTH, "rim"), (WIRE, WIRE_WIDTH, name)):
        patch = PathPatch(curve, fill=False, ec=colour, lw=width, zorder=zorder, label=label)
        axes.add_patch(patch)
