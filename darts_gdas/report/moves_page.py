"""The parts of a page that show how a search's alphas moved; one slider moves them all."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from darts_gdas.report.alphas import Edges, Line, Moves
from darts_gdas.report.cell_svg import draw_cell
from darts_gdas.report.charts import color, line_chart
from darts_gdas.report.markup import EMPTY, Markup, element, join, table, values
from darts_gdas.report.numbers import is_number
from darts_gdas.report.page import charts
from darts_gdas.report.record import Record
from darts_gdas.report.text import operation_label
from darts_gdas.space import Genotype, family_of

UNIT = 1e-5
"""What the script's numbers count; lines have five digits."""

SMALL = 0.05
"""Distances from equal shares that are no larger, relative to these, are called no movement."""


def moved_kinds(record: Record) -> list[Markup]:
    """For each kind of cell its drawing, leads, heat map and curves."""
    moves = record.moves
    reach = max((kind.reach for kind in moves.values()), default=0.0)
    return [_kind(kind, m, record.lines, record.genotype, reach) for kind, m in moves.items()]


def slider(moves: Mapping[str, Moves]) -> Markup:
    """Chooses the epoch that all parts show; nothing where there is no choice."""
    if not moves:
        return EMPTY
    epochs = max((kind.epochs for kind in moves.values()), key=len)
    if len(epochs) < 2:
        return EMPTY
    last = len(epochs) - 1
    field = element(
        "input", type="range", id="epoch", min=0, max=last, value=last, aria_valuetext="last epoch",
        autocomplete="off",
    )  # fmt: skip
    label = element("label", "Epoch ", element("output", str(epochs[-1])), for_="epoch")
    return element("div", label, field, values(list(epochs)), class_="slider needs-script")


def _kind(
    kind: str, moves: Moves, lines: Sequence[Line], genotype: Genotype | None, reach: float
) -> Markup:
    edges, names = moves.edges[-1], _names(moves)
    parts = [element("h3", f"{kind} cell"), element("p", _in_words(moves))]
    if genotype is not None and kind in genotype.cells:
        widths = {edge: moves.leads[edge].probability for edge in edges}
        drawing = draw_cell(genotype.cells[kind], kind, others=[*edges], widths=widths)
        parts.append(drawing)
    parts += [_leads(moves, names), _heat(moves, names, reach), _curves(moves, names, reach)]
    parts += _weights(lines, kind)
    return element("div", *parts, values(_for_script(moves, names, reach)), class_="kind")


def _names(moves: Moves) -> list[str]:
    return list(dict.fromkeys(name for row in moves.edges[-1].values() for name in row))


def _in_words(moves: Moves) -> str:
    leads = [*moves.leads.values()]
    equal = sum(1 / len(row) for row in moves.edges[-1].values()) / len(leads)
    reach = f"{100 * moves.reach:.2g} points from equal shares ({100 * equal:.3g} %)"
    if moves.reach <= SMALL * equal:
        return f"Nothing moved: in no epoch is a probability further than {reach}."
    first = max(leads, key=lambda lead: lead.over_next)
    since = f"since the line of epoch {moves.epochs[0]} by up to {100 * moves.change:.2g}"
    changes = sum(lead.changes for lead in leads)
    clear = sum(lead.over_uniform >= 1 for lead in leads)
    return (
        f"Probabilities lie up to {reach}; they moved {since}. On {clear} of "
        f"{len(leads)} edges the leading operation is twice as probable as that; the largest "
        f"lead is {100 * first.over_next:.2g} points. "
        f"Leads changed {changes} times in all."
    )


def _leads(moves: Moves, names: Sequence[str]) -> Markup:
    header = ["edge", "leads", "%", "over next", "over equal", "since", "changes", "course"]
    rows: list[list[str]] = []
    for edge in moves.edges[-1]:
        lead = moves.leads[edge]
        rows.append(
            [
                arrow_of(edge),
                join(_key(names.index(lead.operation)), operation_label(lead.operation)),
                f"{100 * lead.probability:.2f}",
                f"{100 * lead.over_next:+.2g}",
                _over(lead.over_uniform),
                str(lead.since),
                str(lead.changes),
                _band(moves, edge, names),
            ]
        )
    return table(header, rows, class_="leads")


def _over(share: float) -> str:
    return f"{1 + share:.2g}\N{MULTIPLICATION SIGN}" if share >= 0.5 else f"{100 * share:+.2g} %"


def _key(index: int) -> Markup:
    mark = element("path", d="M0 6H22", class_=f"line {color(index)}")
    return element("svg", mark, viewBox="0 0 22 12", class_="key", aria_hidden="true")


def _band(moves: Moves, edge: str, names: Sequence[str]) -> Markup:
    """What led from when to when, in the colours of the curves."""
    place, paths, told = 0, {}, []
    for name, same in groupby(moves.leaders[edge]):
        count = len(list(same))
        paths.setdefault(name, []).append(f"M{place} 0h{count}v1h-{count}z")
        told.append(f"{operation_label(name)} from epoch {moves.epochs[place]}")
        place += count
    if len(told) > 4:
        told = [f"{len(told) - 1} changes", *told[-2:]]
    parts = [
        element("path", d="".join(path), class_=f"band {color(names.index(name))}")
        for name, path in paths.items()
    ]
    return element(
        "svg", element("title", ", ".join(told)), *parts, viewBox=f"0 0 {place} 1",
        preserveAspectRatio="none", class_="bands", role="img", aria_label=", ".join(told),
    )  # fmt: skip


def _heat(moves: Moves, names: Sequence[str], reach: float) -> Markup:
    rows: list[list[str]] = []
    for edge, row in moves.edges[-1].items():
        equal, best = sum(row.values()) / len(row), max(row.values())
        cells = [_shaded(row[n], equal, best, reach) if n in row else EMPTY for n in names]
        rows.append([arrow_of(edge), *cells])
    about = (
        "Probabilities in percent. Shades tell the distance from equal shares: blue above, orange "
        f"below; the deepest is {100 * reach:.2g} points, the same for all edges and epochs."
    )
    heat = table(["edge", *map(operation_label, names)], rows, class_="heat")
    return join(element("p", about, class_="soft"), heat)


def _shaded(value: float, equal: float, best: float, reach: float) -> Markup:
    share = (value - equal) / reach if reach > 0 else 0.0
    side = "over" if share >= 0 else "under"
    return element(
        "span", f"{100 * round(value / UNIT) * UNIT:.2f}",
        class_=f"shade {side}{' best' * (value == best)}",
        style=f"--share: {abs(share):.2f}",
    )  # fmt: skip


def _curves(moves: Moves, names: Sequence[str], reach: float) -> Markup:
    """The curves of one edge; the script lets the reader choose which."""
    edge = max(moves.edges[-1], key=lambda e: moves.leads[e].over_next)
    top = 105 * reach or 1.0
    series = {
        operation_label(name): [
            (float(epoch), 100 * (row[name] - sum(row.values()) / len(row)))
            for epoch, edges in zip(moves.epochs, moves.edges, strict=True)
            if name in (row := edges[edge])
        ]
        for name in names
    }
    title = f"{arrow_of(edge)}: points above or below equal shares, one scale for all edges"
    about = {"data-edge": edge}
    return line_chart(title, series, y=(-top, top), about=about)


def _weights(lines: Sequence[Line], kind: str) -> list[Markup]:
    """How the edges are weighed against each other, where they are."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        cells = line.get("alphas")
        cell: Any = cells.get(kind) if isinstance(cells, Mapping) else None
        if isinstance(cell, Mapping) and isinstance(cell.get("edge_weights"), list):
            for edge, value in zip(cell.get("edges", ()), cell["edge_weights"], strict=False):
                if is_number(value):
                    name = arrow_of(str(edge))
                    curves.setdefault(name, []).append((line["epoch"] + 1.0, value))
    return [charts(line_chart("Weights of the edges", curves))] if curves else []


def _for_script(moves: Moves, names: Sequence[str], reach: float) -> dict[str, Any]:
    """All probabilities, and what would be returned where that changes."""
    cuts: list[list[Any]] = []
    for i, cut in enumerate(moves.cuts):
        if i == 0 or cut != moves.cuts[i - 1]:
            shown = {e: [operation_label(op), family_of(op).value] for e, op in cut.items()}
            cuts.append([i, shown])
    return {
        "edges": [*moves.edges[-1]],
        "names": [arrow_of(edge) for edge in moves.edges[-1]],
        "unit": UNIT,
        "epochs": list(moves.epochs),
        "values": [_counted(edges, names) for edges in moves.edges],
        "reach": reach,
        "cuts": cuts,
    }


def _counted(edges: Edges, names: Sequence[str]) -> list[list[int]]:
    return [[round(row.get(n, -UNIT) / UNIT) for n in names] for row in edges.values()]


def arrow_of(edge: str) -> str:
    """An edge for people."""
    return edge.replace("->", " \N{RIGHTWARDS ARROW} ")
