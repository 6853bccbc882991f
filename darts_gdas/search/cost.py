"""Costs: pressure on the alphas, and the most probable cell that is cheap enough."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from darts_gdas.nets import CellMixture, CostTable, Mixture, Quantity, build_cost_table
from darts_gdas.search.penalties import Penalty, Surroundings
from darts_gdas.search.relaxation import ArchParameters
from darts_gdas.space import CellGenotype, CellSpace, Edge, Genotype

_LEAST = 1e-300
"""In place of a weight of 0, which has no logarithm."""

_ROUNDING = 1e-12
"""Costs are sums, whose last digits depend on the order."""


@dataclass
class Cost(Penalty):
    """Presses the mean cost of derived networks below a target: weight * max(0, cost/target - 1).

    The cost is that of the network which the mean mixture stands for, fixed parts included, so it
    compares with the counted cost of a finished one. Below the target it is silent. A mean
    below the target does not make the cell of the largest weights meet it: where that one does
    not, the answer is the most probable of those that do (`most_probable`), whose skip
    connections `discretizer.max_skips` does not limit. Of the selections at the end only
    `BestOfDraws` asks what a cell costs.

    Attributes:
        target: What the network may cost: parameters, multiply-adds per image, or milliseconds
            per image, measured on this run's device. None takes `share`.
        quantity: Which of the three.
        weight: The penalty of being twice as dear as the target. A validation loss is around 1.
        channels: Those of the network whose cost counts, such as that to be retrained; None is the
            search's own.
        layers: Those of the same network.
        share: In place of the target: what the cells' operations may cost, as a share of those of
            the dearest network, in (0, 1].
        table: What the candidates cost, counted or measured by `build`.

    Raises:
        ValueError: If a setting has no meaning, or no network of the space meets the target.
    """

    needs_whole_space: ClassVar[bool] = True
    target: float | None = None
    quantity: Quantity = Quantity.parameters
    weight: float = 1.0
    channels: int | None = None
    layers: int | None = None
    share: float | None = None
    table: CostTable | None = field(default=None, metadata={"omegaconf_ignore": True})

    def __post_init__(self) -> None:
        if (self.target is None) == (self.share is None):
            raise ValueError(
                "penalties.cost needs a target, or a share of the dearest network, and not both; "
                f"got target={self.target}, share={self.share}"
            )
        for name in ("target", "weight"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"penalties.cost.{name} must be positive, got {value}")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"penalties.cost.share must lie in (0, 1], got {self.share}")
        for name in ("channels", "layers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"penalties.cost.{name} must be at least 1, got {value}")
        if self.table is not None and self.limit < self.table.smallest:
            raise ValueError(
                f"penalties.cost.target={self.limit:.12g} cannot be met: the smallest network of "
                f"this space and size costs {self.table.smallest:.12g} ({self.quantity.name}), so "
                "take at least that"
            )

    def build(self, surroundings: Surroundings) -> "Cost":
        """Count or measure the candidates."""
        layout = surroundings.layout
        sizes = {"channels": self.channels, "layers": self.layers}
        try:
            network = replace(layout, **{name: n for name, n in sizes.items() if n is not None})
        except ValueError as error:
            raise ValueError(f"penalties.cost.channels, layers: {error}") from None
        at, told = surroundings, partial(surroundings.told, f"measuring {self.quantity.name}")
        table = build_cost_table(at.space, network, at.image_size, self.quantity, at.device, told)
        return replace(self, table=table)

    def __call__(
        self, arch: ArchParameters, mixture: Mixture, *, progress: float
    ) -> Float[Tensor, ""]:
        """The weighted excess."""
        excess = self.state().expected(mixture) / self.limit - 1
        return self.weight * excess.clamp_min(0.0)

    def curves(self, mixture: Mixture) -> dict[str, float]:
        """The mean cost of the networks that the mixture stands for."""
        return {f"cost/{self.quantity.name}": self.state().expected(mixture).item()}

    def found(self, genotype: Genotype) -> dict[str, Any]:
        """What the cell costs by the table, beside the target."""
        found = self.state().of(genotype)
        return {"quantity": self.quantity.name, "target": self.limit, "found": found}

    def allows(self, genotype: Genotype) -> bool:
        """Whether the cell's network meets the target."""
        return self.state().of(genotype) <= self.limit * (1 + _ROUNDING)

    def admitted(self, genotype: Genotype, mixture: Mixture) -> Genotype:
        """The most probable cell that meets the target, where the alphas' choice does not."""
        if self.allows(genotype):
            return genotype
        return most_probable(mixture, self.state(), self.limit * (1 + _ROUNDING))

    @property
    def limit(self) -> float:
        """What the network may cost, in the units of the table."""
        if self.target is not None:
            return self.target
        assert self.share is not None
        table = self.state()
        fixed = float(table.fixed)
        return fixed + self.share * (table.largest - fixed)

    def state(self) -> CostTable:
        """The table, because a second measurement would differ."""
        assert self.table is not None, "build the penalty first"
        return self.table


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


def most_probable(mixture: Mixture, table: CostTable, limit: float) -> Genotype:
    """The cells of the largest product of weights whose network costs at most `limit`.

    Exact: fronts of undominated choices are joined node by node. Without a limit this is what
    `ArgMax` derives, which takes the best operation of each edge and the best edges of each node.

    Args:
        mixture: Weights, not negative.
        table: What the operations cost.
        limit: At least `table.smallest`.

    Raises:
        ValueError: If no network is that cheap.
    """
    left = limit - float(table.fixed)
    front, owners = _NOTHING, []
    for kind, cell in table.space.cells.items():
        for node in range(cell.num_nodes):
            front = front.join(_node(cell, node, mixture[kind], table.rows(kind), left), left)
            owners += [(kind, node)] * _kept(cell, node)
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


def _kept(cell: CellSpace, node: int) -> int:
    edges = len(cell.edges_into(node))
    return edges if cell.keep is None else min(cell.keep, edges)


def _node(
    cell: CellSpace, node: int, mixture: CellMixture, costs: list[list[float]], limit: float
) -> _Front:
    """What can lead into a node."""
    values = np.log(np.maximum(mixture.edge_weighted.double().cpu().numpy(), _LEAST))
    edges: dict[int, _Front] = {}
    for edge in cell.edges_into(node):
        names = cell.derivable(edge)
        columns = [cell.candidates[edge].index(name) for name in names]
        all_of_it = _Front(
            np.array([costs[edge][column] for column in columns]),
            values[edge, columns],
            [((edge, name),) for name in names],
        )
        edges[edge] = _NOTHING.join(all_of_it, limit)
    found = _Front(np.zeros(0), np.zeros(0), ())
    for kept in itertools.combinations(edges, _kept(cell, node)):
        together = _NOTHING
        for edge in kept:
            together = together.join(edges[edge], limit)
        found = found.unite(together, limit)
    return found
