"""What there is to see of a search at one moment, for whoever draws it or writes it down."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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

    def within(self, whole: SearchSpace) -> "SearchView":
        """The same in the space that this one was restricted from: what has left has weight 0."""
        columns = {
            kind: [
                [whole.cells[kind].candidates[edge].index(name) for name in names]
                for edge, names in enumerate(cell.candidates)
            ]
            for kind, cell in self.space.cells.items()
        }

        def widened(rows: np.ndarray, kind: str, blank: float) -> np.ndarray:
            """Values [edges, candidates] in the columns of the whole space."""
            width = whole.cells[kind].num_candidates
            wide = np.full((len(rows), width), blank, dtype=rows.dtype)
            for edge, places in enumerate(columns[kind]):
                wide[edge, places] = rows[edge, : len(places)]
            return wide

        return replace(
            self,
            space=whole,
            probabilities={k: widened(v, k, 0.0) for k, v in self.probabilities.items()},
            alphas={k: widened(v, k, np.nan) for k, v in self.alphas.items()},
        )


def edge_name(cell: CellSpace, edge: int) -> str:
    """An edge in words: "1->3" from node 1 to node 3, inputs as "c_{k-2}", "c_{k-1}"."""
    node, source = cell.edges[edge]
    is_input = source < cell.num_inputs
    start = f"c_k-{cell.num_inputs - source}" if is_input else str(source - cell.num_inputs)
    return f"{start}->{node}"
