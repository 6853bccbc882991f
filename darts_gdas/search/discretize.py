"""Discretizers: from a mixture to a genotype."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.space import CellGenotype, CellSpace, Edge, Genotype, SearchSpace


@dataclass
class Discretizer(ABC):
    """How a mixture becomes one architecture."""

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

    Reference:
        Liu et al., ICLR 2019, section 2.4.
    """

    def __call__(self, mixture: Mixture, space: SearchSpace) -> Genotype:
        """The genotype of the largest weights."""
        return space.genotype(
            {kind: _derive(mixture[kind], cell) for kind, cell in space.cells.items()}
        )


def _derive(mixture: CellMixture, space: CellSpace) -> CellGenotype:
    weights = mixture.ops.tolist()
    edge_weights = [1.0] * len(weights) if mixture.edges is None else mixture.edges.tolist()
    best: list[tuple[float, str]] = []  # per edge: strength and candidate
    for edge, (row, edge_weight) in enumerate(zip(weights, edge_weights, strict=True)):
        final = space.derivable(edge)
        named = zip(row, space.candidates[edge], strict=False)
        offered = [(w, name) for w, name in named if name in final]
        weight, name = max(offered, key=lambda pair: pair[0])
        best.append((weight * edge_weight, name))
    nodes = []
    for node in range(space.num_nodes):
        ranked = sorted(space.edges_into(node), key=lambda edge: -best[edge][0])
        kept = sorted(ranked[: space.keep])
        nodes.append(tuple(Edge(best[edge][1], space.edges[edge][1]) for edge in kept))
    return CellGenotype(tuple(nodes), space.output, space.num_inputs)
