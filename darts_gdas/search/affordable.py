"""The most probable cell that is cheap enough, found exactly."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from darts_gdas.nets import CellMixture, CostTable, Mixture
from darts_gdas.space import SKIP, CellGenotype, CellSpace, Edge, Genotype

_LEAST = 1e-300
"""In place of a weight of 0, which has no logarithm."""

Choice = tuple[tuple[int, str], ...]
"""Which edges stay, by their position, each with its operation."""


@dataclass(frozen=True, eq=False)
class _Front:
    """Choices of which none is both dearer and less probable than another.

    Attributes:
        costs: What each costs, ascending.
        values: The logarithm of its weights' product, ascending too.
        choices: What it is.
    """

    costs: Float64[np.ndarray, " choices"]
    values: Float64[np.ndarray, " choices"]
    choices: Sequence[Choice]

    def join(self, other: "_Front", limit: float) -> "_Front":
        """Both together, without what is dearer than a limit."""
        costs = np.add.outer(self.costs, other.costs).ravel()
        values = np.add.outer(self.values, other.values).ravel()
        kept = _undominated(costs, values, limit)
        pairs = [divmod(int(i), len(other.choices)) for i in kept]
        choices = [self.choices[i] + other.choices[j] for i, j in pairs]
        return _Front(costs[kept], values[kept], choices)

    def unite(self, other: "_Front", limit: float) -> "_Front":
        """Either."""
        costs, values = (
            np.concatenate(both)
            for both in ((self.costs, other.costs), (self.values, other.values))
        )
        choices = [*self.choices, *other.choices]
        kept = _undominated(costs, values, limit)
        return _Front(costs[kept], values[kept], [choices[i] for i in kept])


_NOTHING = _Front(np.zeros(1), np.zeros(1), ((),))


def _undominated(costs: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    order = np.lexsort((-values, costs))
    order = order[costs[order] <= limit]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(values[order])[:-1]])
    return order[values[order] > before]


Fronts = dict[int, _Front]
"""By the number of skip connections that count; all are one front where none do."""


def _join(one: Fronts, other: Fronts, limit: float, most: int | float = math.inf) -> Fronts:
    """Both together, with at most so many skip connections."""
    found: Fronts = {}
    for (i, first), (j, second) in itertools.product(one.items(), other.items()):
        if i + j <= most:
            together = first.join(second, limit)
            before = found.get(i + j)
            found[i + j] = together if before is None else before.unite(together, limit)
    return found


def _unite(fronts: Iterable[_Front], limit: float) -> _Front:
    found = _Front(np.zeros(0), np.zeros(0), ())
    for front in fronts:
        found = found.unite(front, limit)
    return found


def most_probable(
    mixture: Mixture,
    table: CostTable,
    limit: float,
    skip_limits: Mapping[str, int] | None = None,
) -> Genotype:
    """The cells of the largest product of weights whose network costs at most `limit`.

    Exact: fronts of undominated choices are joined node by node. Without a limit this is what
    `ArgMax` derives, which takes the best operation of each edge and the best edges of each node.

    Args:
        mixture: Weights, not negative.
        table: What the operations cost.
        limit: At least `cheapest(table, skip_limits)`.
        skip_limits: By kind, how many skip connections a cell has at most, or as few as it can.

    Raises:
        ValueError: If no network is that cheap.
    """
    front, owners = _best(mixture, table, limit - float(table.fixed), skip_limits or {})
    if not front.choices:
        raise ValueError(f"no network of this space costs {limit:.12g} or less")
    nodes: dict[tuple[str, int], list[Edge]] = {owner: [] for owner in owners}
    for (kind, node), (edge, op) in zip(owners, front.choices[-1], strict=True):
        nodes[kind, node].append(Edge(op, table.space.cells[kind].edges[edge][1]))
    return table.space.genotype(
        {
            kind: CellGenotype(
                tuple(tuple(nodes[kind, node]) for node in range(cell.num_nodes)),
                cell.output,
                cell.num_inputs,
            )
            for kind, cell in table.space.cells.items()
        }
    )


def cheapest(table: CostTable, skip_limits: Mapping[str, int]) -> float:
    """The cost of the cheapest network with so few skip connections as `most_probable` takes."""
    if not skip_limits:
        return table.smallest
    equal = Mixture(
        {
            kind: CellMixture(torch.ones(len(cell.edges), cell.num_candidates))
            for kind, cell in table.space.cells.items()
        }
    )
    front, _ = _best(equal, table, math.inf, skip_limits)
    return float(table.fixed) + float(front.costs[0])


def _best(
    mixture: Mixture, table: CostTable, left: float, skip_limits: Mapping[str, int]
) -> tuple[_Front, list[tuple[str, int]]]:
    """What the edges of all cells can be, and whose they are."""
    front, owners = _NOTHING, []
    for kind, cell in table.space.cells.items():
        counts = kind in skip_limits
        most = max(skip_limits[kind], _fewest_skips(cell)) if counts else math.inf
        fronts: Fronts = {0: front}
        for node in range(cell.num_nodes):
            into = _node(cell, node, mixture[kind], table.rows(kind), left, counts)
            fronts = _join(fronts, into, left, most)
            owners += [(kind, node)] * _kept(cell, node)
        front = _unite(fronts.values(), left)
    return front, owners


def _fewest_skips(cell: CellSpace) -> int:
    """Skip connections of a cell that has as few as it can, where edges offer nothing else."""
    total = 0
    for node in range(cell.num_nodes):
        others = sum(cell.derivable(edge) != (SKIP,) for edge in cell.edges_into(node))
        total += max(_kept(cell, node) - others, 0)
    return total


def _kept(cell: CellSpace, node: int) -> int:
    edges = len(cell.edges_into(node))
    return edges if cell.keep is None else min(cell.keep, edges)


def _node(
    cell: CellSpace,
    node: int,
    mixture: CellMixture,
    costs: list[list[float]],
    limit: float,
    counts: bool,
) -> Fronts:
    """What can lead into a node, by its skip connections if they count."""
    values = np.log(np.maximum(mixture.edge_weighted.double().cpu().numpy(), _LEAST))
    edges: dict[int, Fronts] = {}
    for edge in cell.edges_into(node):
        sorts: dict[int, list[str]] = {}
        for name in cell.derivable(edge):
            sorts.setdefault(int(counts and name == SKIP), []).append(name)
        edges[edge] = {}
        for skips, names in sorts.items():
            columns = [cell.candidates[edge].index(name) for name in names]
            all_of_it = _Front(
                np.array([costs[edge][column] for column in columns]),
                values[edge, columns],
                [((edge, name),) for name in names],
            )
            edges[edge][skips] = _NOTHING.join(all_of_it, limit)
    found: Fronts = {}
    for kept in itertools.combinations(edges, _kept(cell, node)):
        together: Fronts = {0: _NOTHING}
        for edge in kept:
            together = _join(together, edges[edge], limit)
        for skips, front in together.items():
            found[skips] = _unite([*([found[skips]] if skips in found else []), front], limit)
    return found
