"""What there is to see of a search at one moment, for whoever draws it or writes it down."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from darts_gdas.space import CellSpace, Genotype, SearchSpace


@dataclass(frozen=True)
class SearchView:
    """What there is to see of a search at one moment.

    Attributes:
        space: Names the edges and candidates.
        probabilities: Expected weights [edges, candidates] by kind, each in [0, 1]; rows are
            distributions unless the candidates do not compete.
        genotype: What the search would return now.
        edge_weights: Expected weights [edges] by kind, where edges are weighed against each other.
        alphas: What the probabilities are made of, [edges, candidates] by kind; nan where an edge
            lacks a candidate.
    """

    space: SearchSpace
    probabilities: Mapping[str, np.ndarray]
    genotype: Genotype
    edge_weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    alphas: Mapping[str, np.ndarray] = field(default_factory=dict)


def in_columns(
    values: Mapping[str, np.ndarray], space: SearchSpace, whole: SearchSpace, *, blank: float
) -> dict[str, np.ndarray]:
    """Values [edges, candidates] by kind in the columns of another space.

    Args:
        values: One row per edge, beginning with the candidates that it has.
        space: What they are values of.
        whole: What that was restricted from, or the same.
        blank: What stands for candidates that an edge lacks.
    """
    wide = {}
    for kind, rows in values.items():
        cell, narrow = whole.cells[kind], space.cells[kind]
        wide[kind] = np.full((len(rows), cell.num_candidates), blank, rows.dtype)
        for edge, names in enumerate(narrow.candidates):
            columns = [cell.candidates[edge].index(name) for name in names]
            wide[kind][edge, columns] = rows[edge, : len(names)]
    return wide


def leads(cell: CellSpace, probabilities: np.ndarray) -> np.ndarray:
    """By how much the largest probability of each edge exceeds the next, [edges].

    Args:
        cell: Says how many candidates each edge has.
        probabilities: [edges, candidates]; what an edge lacks is not looked at.

    Returns:
        0 where two candidates are level; nan for an edge with one candidate, which leads nobody.
    """
    found = np.full(len(cell.edges), np.nan)
    for edge, names in enumerate(cell.candidates):
        if len(names) > 1:
            second, first = np.sort(probabilities[edge, : len(names)])[-2:]
            found[edge] = first - second
    return found


def edge_name(cell: CellSpace, edge: int) -> str:
    """An edge in words: "1->3" from node 1 to node 3, inputs as "c_{k-2}", "c_{k-1}"."""
    node, source = cell.edges[edge]
    is_input = source < cell.num_inputs
    start = f"c_k-{cell.num_inputs - source}" if is_input else str(source - cell.num_inputs)
    return f"{start}->{node}"
