"""Discretizers: from a mixture to a genotype."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.nets.layout import NORMAL
from darts_gdas.space import SKIP, CellGenotype, CellSpace, Edge, Genotype, SearchSpace


@dataclass
class Discretizer(ABC):
    """How a mixture becomes one architecture.

    Attributes:
        asks_weights: Whether the trained supernet chooses at the end. Otherwise the alphas do.
        heeds_penalties: Whether its answer is a cell that the penalties allow.
        scores_setting: What names the scores that it asks for.
    """

    asks_weights: ClassVar[bool] = False
    heeds_penalties: ClassVar[bool] = True
    scores_setting: ClassVar[str] = "discretizer.judge.score"

    @property
    def skip_limits(self) -> dict[str, int]:
        """By kind, how many skip connections a cell has at most; without a limit nothing."""
        return {}

    @property
    def needs_no_training(self) -> bool:
        """Whether neither alphas nor weights matter to what is found."""
        return False

    def fits(self, space: SearchSpace) -> str | None:
        """Which of its settings has no effect on a space, and why; None where all have."""
        return None

    @property
    def needs_table(self) -> bool:
        """Whether it asks the known accuracies of cells."""
        return False

    @property
    def asked_scores(self) -> tuple[str, ...]:
        """The scores of untrained networks that it asks for."""
        return ()

    @abstractmethod
    def __call__(self, mixture: Mixture, space: SearchSpace) -> Genotype:
        """One cell per kind of the space."""


@dataclass
class ArgMax(Discretizer):
    """The best candidate of each edge, on the best edges of each node.

    An edge is as strong as its largest weight among the candidates that can be final (times
    its edge weight, where the mixture has one); each node keeps the `keep` strongest edges, so
    never two from one source. The weights are taken as they are: `none` competes inside the
    softmax, scales an edge down, and is chosen only where the space derives it
    (NAS-Bench-201). Equal weights: the earlier one wins.

    Where normal cells come out with more than `max_skips` skip connections, the weakest of them
    leaves its edge's candidates and the cell is derived again, until they are few enough. An edge
    that has nothing else keeps its skip connection, if its node cannot do without the edge.

    Attributes:
        max_skips: Skip connections of a normal cell, at most; None sets no limit. P-DARTS takes 2.

    Reference:
        Liu et al., ICLR 2019, section 2.4. The limit: Chen et al., ICCV 2019,
        https://arxiv.org/abs/1904.12760, section 3.3.
    """

    max_skips: int | None = None

    def __post_init__(self) -> None:
        if self.max_skips is not None and self.max_skips < 0:
            raise ValueError(f"discretizer.max_skips must not be negative, got {self.max_skips}")

    @property
    def skip_limits(self) -> dict[str, int]:
        """`max_skips`, of normal cells."""
        return {} if self.max_skips is None else {NORMAL: self.max_skips}

    def fits(self, space: SearchSpace) -> str | None:
        """The limit is on normal cells."""
        if self.max_skips is None or NORMAL in space.cells:
            return None
        return f"max_skips={self.max_skips} is for normal cells, and the space has none"

    def __call__(self, mixture: Mixture, space: SearchSpace) -> Genotype:
        """The genotype of the largest weights."""
        limits = self.skip_limits
        return space.genotype(
            {
                kind: _derive(mixture[kind], cell, limits.get(kind))
                for kind, cell in space.cells.items()
            }
        )


Offered = list[dict[str, float]]
"""Per edge, the weight of each operation that can be final."""

_REMOVED = -1.0
"""In place of a weight, all of which are at least 0."""


def _derive(mixture: CellMixture, space: CellSpace, max_skips: int | None) -> CellGenotype:
    weights = mixture.ops.tolist()
    edge_weights = [1.0] * len(weights) if mixture.edges is None else mixture.edges.tolist()
    offered: Offered = []
    for edge, row in enumerate(weights):
        named = zip(space.candidates[edge], row, strict=False)
        final = space.derivable(edge)
        offered.append({name: weight for name, weight in named if name in final})
    cell, skips = _strongest(offered, edge_weights, space)
    while max_skips is not None and len(skips) > max_skips:
        present = {edge: strength for edge, strength in skips.items() if strength >= 0}
        if not present:
            break
        offered[min(present, key=lambda edge: present[edge])][SKIP] = _REMOVED
        cell, skips = _strongest(offered, edge_weights, space)
    return cell


def _strongest(
    offered: Offered, edge_weights: list[float], space: CellSpace
) -> tuple[CellGenotype, dict[int, float]]:
    """The cell of the strongest edges, and how strong those are that skip."""
    best = [max(names.items(), key=lambda pair: pair[1]) for names in offered]
    strengths = [
        weight if weight == _REMOVED else weight * edge_weight
        for (_, weight), edge_weight in zip(best, edge_weights, strict=True)
    ]
    nodes, skips = [], {}
    for node in range(space.num_nodes):
        ranked = sorted(space.edges_into(node), key=lambda edge: -strengths[edge])
        kept = sorted(ranked[: space.keep])
        skips |= {edge: strengths[edge] for edge in kept if best[edge][0] == SKIP}
        nodes.append(tuple(Edge(best[edge][0], space.edges[edge][1]) for edge in kept))
    return CellGenotype(tuple(nodes), space.output, space.num_inputs), skips
