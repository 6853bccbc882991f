"""Back from a genotype to the mixture that runs it in a supernet."""

import torch

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.space import NONE, CellGenotype, CellSpace, Genotype, SearchSpace


def one_hot(genotype: Genotype, space: SearchSpace) -> Mixture:
    """Weight 1 for every operation of the genotype, 0 for all else; only what is in it runs.

    Args:
        genotype: Out of the space.
        space: Gives the order of edges and candidates.

    Raises:
        ValueError: If the genotype is not of this space.
    """
    return Mixture({kind: _cell(genotype, kind, cell) for kind, cell in space.cells.items()})


def _cell(genotype: Genotype, kind: str, space: CellSpace) -> CellMixture:
    if kind not in genotype.cells:
        raise ValueError(f"the genotype has no {kind} cell, the space has one")
    ops = torch.zeros(len(space.edges), space.num_candidates)
    # An edge that is left out runs `none`, or whatever it has, with weight 0.
    active = [names.index(NONE) if NONE in names else 0 for names in space.candidates]
    for edge, op in _operations(genotype.cells[kind], space).items():
        if op not in space.candidates[edge]:
            raise ValueError(
                f"the genotype's {kind} cell has {op!r} on edge {edge}, the space offers "
                f"{', '.join(space.candidates[edge])}"
            )
        active[edge] = space.candidates[edge].index(op)
        ops[edge, active[edge]] = 1.0
    return CellMixture(ops, active=tuple(active))


def _operations(cell: CellGenotype, space: CellSpace) -> dict[int, str]:
    """The operation of each edge that the cell has, by the edge's position."""
    positions = {pair: edge for edge, pair in enumerate(space.edges)}
    found: dict[int, str] = {}
    for node, edges in enumerate(cell.nodes):
        for edge in edges:
            position = positions.get((node, edge.source))
            if position is None or position in found:
                raise ValueError(
                    f"the genotype's node {node} reads state {edge.source} in a way that a cell "
                    "of the space does not"
                )
            found[position] = edge.op
    return found
