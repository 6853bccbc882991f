"""What a line of `metrics.jsonl` tells of a search's alphas, and how they moved over the lines."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darts_gdas.report.numbers import is_number
from darts_gdas.report.view import SearchView, edge_name

DIGITS = 5
Line = Mapping[str, Any]
Edges = Mapping[str, Mapping[str, float]]
Cut = Mapping[str, str]


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


@dataclass(frozen=True)
class Lead:
    """What leads on an edge at the end, and how it came to.

    Attributes:
        operation: The candidate with the largest probability.
        probability: Its probability.
        over_next: By how much more probable it is than the next one.
        over_uniform: The same against all candidates being equally probable, as a share of that.
        since: The epoch from which on it has led.
        changes: How often another candidate took the lead.
    """

    operation: str
    probability: float
    over_next: float
    over_uniform: float
    since: int
    changes: int


@dataclass(frozen=True)
class Moves:
    """How the probabilities of one kind of cell moved.

    Attributes:
        epochs: Those that are known, counted from 1.
        edges: Probabilities by edge and candidate, one entry per epoch.
        cuts: The operation by edge of what the search would have returned, one entry per epoch.
    """

    epochs: Sequence[int]
    edges: Sequence[Edges]
    cuts: Sequence[Cut]

    @functools.cached_property
    def leaders(self) -> dict[str, list[str]]:
        """By edge, the leading candidate of every epoch; of equals the first."""
        return {
            edge: [max(row, key=row.__getitem__) for row in (edges[edge] for edges in self.edges)]
            for edge in self.edges[-1]
        }

    @functools.cached_property
    def leads(self) -> dict[str, Lead]:
        """By edge, what leads at the end."""
        return {edge: self._lead(edge) for edge in self.edges[-1]}

    def _lead(self, edge: str) -> Lead:
        leaders, values = self.leaders[edge], self.edges[-1][edge]
        taken = [i for i in range(1, len(leaders)) if leaders[i] != leaders[i - 1]]
        best, *rest = sorted(values.values(), reverse=True)
        since = self.epochs[taken[-1] if taken else 0]
        equal = sum(values.values()) / len(values)
        over = best / equal - 1 if equal > 0 else 0.0
        return Lead(leaders[-1], best, best - max(rest, default=0.0), over, since, len(taken))

    @functools.cached_property
    def reach(self) -> float:
        """The largest distance of any probability, in any epoch, from an equal one."""
        rows = [row.values() for edges in self.edges for row in edges.values()]
        means = [sum(row) / len(row) for row in rows]
        spread = [max(max(r) - m, m - min(r)) for r, m in zip(rows, means, strict=True)]
        return max(spread, default=0.0)

    @functools.cached_property
    def change(self) -> float:
        """The largest distance of any probability, in any epoch, from that of the first epoch."""
        return max(
            abs(row[name] - value)
            for edges in self.edges
            for edge, row in edges.items()
            for name, value in self.edges[0][edge].items()
        )

    @property
    def unchanged_since(self) -> int:
        """The epoch from which on the search would have returned this cell."""
        changed = [i for i in range(1, len(self.cuts)) if self.cuts[i] != self.cuts[i - 1]]
        return self.epochs[changed[-1] if changed else 0]

    @property
    def is_undecided(self) -> bool:
        """Whether each candidate of each edge ends more than half as likely as any other.

        The rule of `search.diagnostics.is_undecided`, which says why.
        """
        rows = [row.values() for row in self.edges[-1].values() if len(row) > 1]
        return bool(rows) and all(2 * min(row) > max(row) for row in rows)


def moves_of(lines: Sequence[Line]) -> dict[str, Moves]:
    """By kind, over those lines that name the edges and candidates of the last one that has any."""
    known = [(line, found) for line in lines if (found := probabilities_of(line))]
    moves = {}
    for kind, last in known[-1][1].items() if known else ():
        shape = {edge: [*row] for edge, row in last.items()}
        kept = [(line, found[kind]) for line, found in known if _shape(found.get(kind)) == shape]
        if shape and all(shape.values()):
            epochs = [int(line["epoch"]) + 1 for line, _ in kept]
            cuts = [_cut(line, kind) for line, _ in kept]
            moves[kind] = Moves(epochs, [edges for _, edges in kept], cuts)
    return moves


def _shape(edges: Edges | None) -> dict[str, list[str]]:
    return {edge: [*row] for edge, row in (edges or {}).items()}


def _cut(line: Line, kind: str) -> dict[str, str]:
    """Operations by edge of what the search would have returned; empty where that is unknown."""
    try:
        cell = line["genotype"]["cells"][kind]
        pairs = [(node, *edge) for node, edges in enumerate(cell["nodes"]) for edge in edges]
        return {edge_of(source, node, cell["inputs"]): str(op) for node, op, source in pairs}
    except (KeyError, TypeError, ValueError):
        return {}


def edge_of(source: int, node: int, num_inputs: int) -> str:
    """An edge as in `metrics.jsonl`: "c_k-2->0", "0->1"."""
    start = state_of(source, num_inputs)
    return f"{f'c_{start}' if source < num_inputs else start}->{node}"


def state_of(state: int, num_inputs: int) -> str:
    """A state in few characters: "k-2" for an input, "0" for the first node."""
    back = num_inputs - state
    return f"k-{back}" if back > 0 else str(-back)
