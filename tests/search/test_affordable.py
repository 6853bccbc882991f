"""The most probable affordable cell, against enumeration."""

import itertools
import math

import pytest
import torch

from darts_gdas.nets import CellMixture, CostTable, Layout, Mixture, Quantity, build_cost_table
from darts_gdas.search import ArgMax
from darts_gdas.search.affordable import cheapest, most_probable
from darts_gdas.space import CellGenotype, CellSpace, Edge, Genotype, SearchSpace

BENCH = SearchSpace.named("nasbench201")
DARTS = SearchSpace.named("darts")
OPS = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
KEEP = SearchSpace({"normal": CellSpace((OPS,) * 5, num_nodes=2, keep=2)})
CONCAT = SearchSpace(
    {kind: CellSpace((OPS[:3],) * 2, num_nodes=1) for kind in ("normal", "reduce")}
)


def mixture_of(space: SearchSpace, seed: int, *, edges: bool = False) -> Mixture:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator).double().softmax(-1)

    return Mixture(
        {
            kind: CellMixture(
                drawn(len(c.edges), c.num_candidates), drawn(len(c.edges)) if edges else None
            )
            for kind, c in space.cells.items()
        }
    )


def random_table(space: SearchSpace, seed: int) -> CostTable:
    generator = torch.Generator().manual_seed(seed)
    return CostTable(
        space,
        5.0,
        {
            kind: torch.rand(len(c.edges), c.num_candidates, generator=generator)
            for kind, c in space.cells.items()
        },
    )


def all_cells(cell: CellSpace) -> list[CellGenotype]:
    nodes = []
    for node in range(cell.num_nodes):
        into = cell.edges_into(node)
        nodes.append(
            [
                tuple(Edge(op, cell.edges[edge][1]) for edge, op in zip(kept, ops, strict=True))
                for kept in itertools.combinations(into, min(cell.keep or len(into), len(into)))
                for ops in itertools.product(*(cell.derivable(edge) for edge in kept))
            ]
        )
    return [
        CellGenotype(found, cell.output, cell.num_inputs) for found in itertools.product(*nodes)
    ]


def weight(genotype: Genotype, mixture: Mixture, space: SearchSpace) -> float:
    total = 0.0
    for kind, cell in space.cells.items():
        strengths = mixture[kind].edges
        for node, edges in enumerate(genotype.cells[kind].nodes):
            for edge in edges:
                row = cell.edges.index((node, edge.source))
                total += math.log(mixture[kind].ops[row, cell.candidates[row].index(edge.op)])
                total += 0.0 if strengths is None else math.log(strengths[row])
    return total


@pytest.mark.parametrize("edges", [False, True], ids=["", "edge_weights"])
@pytest.mark.parametrize("space", [KEEP, CONCAT], ids=["keep", "two_kinds"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_it_is_the_best_of_all_cells_within_the_limit(
    space: SearchSpace, share: float, edges: bool
):
    table, mixture = random_table(space, 1), mixture_of(space, 2, edges=edges)
    limit = table.smallest + share * (table.largest - table.smallest) + 1e-9
    cells = [all_cells(cell) for cell in space.cells.values()]
    every = [
        space.genotype(dict(zip(space.cells, found, strict=True)))
        for found in itertools.product(*cells)
    ]
    allowed = [genotype for genotype in every if table.of(genotype) <= limit]
    best = max(allowed, key=lambda genotype: weight(genotype, mixture, space))
    assert most_probable(mixture, table, limit) == best


def skips(genotype: Genotype, kind: str = "normal") -> int:
    return [edge.op for node in genotype.cells[kind].nodes for edge in node].count("skip_connect")


FORCED = SearchSpace({"normal": CellSpace((OPS[1:2], OPS[1:3], *(OPS[1:2],) * 3), 2, keep=2)})
"""Every edge but one offers a skip connection alone, so three of four kept ones are."""


@pytest.mark.parametrize("space", [KEEP, CONCAT, FORCED], ids=["keep", "two_kinds", "forced"])
@pytest.mark.parametrize("share", [0.2, 0.6])
@pytest.mark.parametrize("most", [0, 1])
def test_skip_connections_of_a_kind_are_limited_too(space: SearchSpace, share: float, most: int):
    """Against enumeration: the best cell, and the cheapest, of those with few enough skips."""
    table, mixture, limits = random_table(space, 1), mixture_of(space, 2), {"normal": most}
    cells = [all_cells(cell) for cell in space.cells.values()]
    every = [
        space.genotype(dict(zip(space.cells, found, strict=True)))
        for found in itertools.product(*cells)
    ]
    fewest = max(most, min(map(skips, every)))
    few = [genotype for genotype in every if skips(genotype) <= fewest]
    least = min(map(table.of, few))
    assert math.isclose(cheapest(table, limits), least, rel_tol=1e-12)
    limit = least + share * (table.largest - least) + 1e-9
    allowed = [genotype for genotype in few if table.of(genotype) <= limit]
    best = max(allowed, key=lambda genotype: weight(genotype, mixture, space))
    assert most_probable(mixture, table, limit, limits) == best


@pytest.mark.parametrize("space", [BENCH, DARTS, KEEP], ids=["nasbench201", "darts", "keep"])
@pytest.mark.parametrize("seed", range(3))
def test_without_a_limit_it_is_what_the_largest_weights_derive(space: SearchSpace, seed: int):
    mixture, table = mixture_of(space, seed), random_table(space, seed)
    assert most_probable(mixture, table, table.largest + 1) == ArgMax()(mixture, space)


def test_a_tighter_limit_never_finds_a_more_probable_cell_and_is_met():
    """In the DARTS space, whose cells cannot be enumerated, with counted parameters."""
    layout = Layout(4, 5, 10)
    table = build_cost_table(DARTS, layout, (8, 8), Quantity.parameters, torch.device("cpu"))
    mixture, before = mixture_of(DARTS, 0), -math.inf
    for share in (0.05, 0.3, 0.6, 1.0):
        limit = table.smallest + share * (table.largest - table.smallest)
        found = most_probable(mixture, table, limit)
        assert table.of(found) <= limit
        assert weight(found, mixture, DARTS) >= before
        before = weight(found, mixture, DARTS)


def test_what_no_network_meets_is_an_error():
    table = random_table(KEEP, 0)
    with pytest.raises(ValueError, match="no network of this space costs 4 or less"):
        most_probable(mixture_of(KEEP, 0), table, 4.0)
