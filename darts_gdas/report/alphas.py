"""What a line of `metrics.jsonl` tells of a search's alphas, and how a page shows it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from darts_gdas.report.charts import line_chart, shared_legend
from darts_gdas.report.markup import EMPTY, Markup, element, table
from darts_gdas.report.numbers import is_number
from darts_gdas.report.page import charts, folded
from darts_gdas.report.text import operation_label
from darts_gdas.report.view import SearchView, edge_name

DIGITS = 5
Line = Mapping[str, Any]
Edges = Mapping[str, Mapping[str, float]]


def alphas_line(view: SearchView) -> dict[str, Any]:
    """Entries of a line: probabilities of all edges by kind, and what the search would return.

    Each line names its edges and candidates, so that it can be read by itself. Candidates that
    are the same on all edges stand there once.
    """
    alphas: dict[str, dict[str, Any]] = {}
    for kind, cell in view.space.cells.items():
        rows = view.probabilities[kind].tolist()
        same = len(set(cell.candidates)) == 1
        alphas[kind] = {
            "edges": [edge_name(cell, edge) for edge in range(len(cell.edges))],
            "candidates": list(cell.candidates[0] if same else map(list, cell.candidates)),
            "probabilities": [
                [round(value, DIGITS) for value in row[: len(names)]]
                for row, names in zip(rows, cell.candidates, strict=True)
            ],
        }
        if kind in view.edge_weights:
            weights = view.edge_weights[kind].tolist()
            alphas[kind]["edge_weights"] = [round(value, DIGITS) for value in weights]
    return {"alphas": alphas, "genotype": json.loads(view.genotype.to_json())}


def probabilities_of(line: Line) -> dict[str, dict[str, dict[str, float]]]:
    """Probabilities by kind, edge and candidate; empty where a line has none that make sense."""
    try:
        return {kind: _cell(cell) for kind, cell in line.get("alphas", {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return {}


def _cell(cell: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    edges, names = cell["edges"], cell["candidates"]
    rows = [names] * len(edges) if isinstance(names[0], str) else names
    return {
        str(edge): {
            str(name): float(value)
            for name, value in zip(row, values, strict=False)
            if is_number(value)
        }
        for edge, row, values in zip(edges, rows, cell["probabilities"], strict=True)
    }


def probabilities(lines: Sequence[Line]) -> list[Markup]:
    """For each kind of cell: a small chart per edge, and the last values as a table."""
    moved = [(float(line["epoch"] + 1), probabilities_of(line)) for line in lines]
    if not moved:
        return []
    parts: list[Markup] = []
    for kind, edges in moved[-1][1].items():
        history = [(epoch, kinds.get(kind, {})) for epoch, kinds in moved]
        names = list(dict.fromkeys(name for row in edges.values() for name in row))
        parts.append(element("h3", f"{kind} cell"))
        parts.append(shared_legend([operation_label(name) for name in names]))
        parts.append(charts(*_figures(history, names), *_weights(lines, kind), small=True))
        parts.append(folded("last values", _heat(edges, names)))
    return parts


def _figures(history: Sequence[tuple[float, Edges]], names: Sequence[str]) -> list[Markup]:
    """One chart per edge, all of one scale."""
    values = [v for _, edges in history for row in edges.values() for v in row.values()]
    top = min(1.05 * max(values, default=1.0), 1.0) or 1.0
    figures = []
    for edge in history[-1][1]:
        curves = {
            name: [(e, edges[edge][name]) for e, edges in history if name in edges.get(edge, {})]
            for name in names
        }
        figures.append(line_chart(_arrow(edge), curves, y=(0.0, top), small=True))
    return figures


def _weights(lines: Sequence[Line], kind: str) -> list[Markup]:
    """How the edges are weighed against each other, where they are."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        cell = line["alphas"][kind] if kind in probabilities_of(line) else {}
        weights = zip(cell.get("edges", ()), cell.get("edge_weights", ()), strict=False)
        for edge, value in weights:
            if is_number(value):
                curves.setdefault(_arrow(str(edge)), []).append((line["epoch"] + 1.0, value))
    return [line_chart("weights of the edges", curves)] if curves else []


def _arrow(edge: str) -> str:
    return edge.replace("->", " \N{RIGHTWARDS ARROW} ")


def _heat(edges: Edges, names: Sequence[str]) -> Markup:
    header = ["edge", *map(operation_label, names)]
    rows: list[list[str]] = [
        [_arrow(edge), *(_shaded(row[name]) if name in row else EMPTY for name in names)]
        for edge, row in edges.items()
    ]
    return table(header, rows)


def _shaded(value: float) -> Markup:
    return element("span", f"{value:.3f}", class_="shade", style=f"--share: {value:.3f}")
