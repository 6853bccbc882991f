import itertools
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.search.discretize import ArgMax
from darts_gdas.space import NONE, CellGenotype, CellSpace, Edge, SearchSpace
from tests.oracles import enumerate_cells
from tests.space.test_cell import spaces

DARTS = SearchSpace.named("darts")


def mixture_of(space: SearchSpace, seed: int, *, edges: bool = False) -> Mixture:
    generator = torch.Generator().manual_seed(seed)
    cells = {}
    for kind, cell in space.cells.items():
        logits = torch.randn(len(cell.edges), cell.num_candidates, generator=generator)
        weights = torch.rand(len(cell.edges), generator=generator) if edges else None
        cells[kind] = CellMixture(logits.softmax(-1), weights)
    return Mixture(cells)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), nodes=st.integers(1, 5), keep=st.integers(1, 2))
def test_derived_cells_keep_distinct_sources_and_never_none(seed: int, nodes: int, keep: int):
    space = SearchSpace.darts(num_nodes=nodes, keep=keep)
    genotype = ArgMax()(mixture_of(space, seed), space)
    for cell in genotype.cells.values():
        for edges in cell.nodes:
            sources = [edge.source for edge in edges]
            assert len(set(sources)) == len(sources) == keep
            assert all(edge.op != NONE for edge in edges)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), has_edge_weights=st.booleans())
def test_each_node_is_the_best_of_all_its_choices(seed: int, has_edge_weights: bool):
    """By brute force: the kept pair has the largest sum of best non-none weights."""
    mixture = mixture_of(DARTS, seed, edges=has_edge_weights)
    genotype = ArgMax()(mixture, DARTS)
    for kind, cell in DARTS.cells.items():
        ops, edge_weights = mixture[kind].ops, mixture[kind].edges
        for node in range(cell.num_nodes):
            choices = {}
            for first, second in itertools.combinations(cell.edges_into(node), 2):
                for a, b in itertools.product(range(1, 8), repeat=2):
                    strengths = [ops[first, a], ops[second, b]]
                    if edge_weights is not None:
                        strengths = [
                            s * edge_weights[e]
                            for s, e in zip(strengths, (first, second), strict=True)
                        ]
                    names = cell.candidates[first]
                    pair = (
                        Edge(names[a], cell.edges[first][1]),
                        Edge(names[b], cell.edges[second][1]),
                    )
                    choices[pair] = float(sum(strengths))
            best = max(choices, key=lambda pair: choices[pair])
            assert genotype.cells[kind].nodes[node] == best


@settings(deadline=None, max_examples=60)
@given(cell=spaces(), seed=st.integers(0, 2**31))
def test_the_derived_cell_is_the_strongest_of_all_cells_of_any_space(cell: CellSpace, seed: int):
    """By listing every cell: the largest sum of weights times edge weights."""
    space = SearchSpace({"normal": cell})
    mixture = mixture_of(space, seed, edges=True)["normal"]
    assert mixture.edges is not None
    strength = mixture.ops.double() * mixture.edges.double()[:, None]

    def total(genotype: CellGenotype) -> float:
        edges = [(node, e) for node, edges in enumerate(genotype.nodes) for e in edges]
        rows = [cell.edges.index((node, e.source)) for node, e in edges]
        columns = [cell.candidates[r].index(e.op) for r, (_, e) in zip(rows, edges, strict=True)]
        return float(strength[rows, columns].sum())

    derived = ArgMax()(Mixture({"normal": mixture}), space).cells["normal"]
    cells = enumerate_cells(cell)
    assert derived in cells
    assert total(derived) == pytest.approx(max(map(total, cells)), rel=1e-12)


def test_none_scales_an_edge_down_but_is_not_chosen():
    """Edge 0's best real candidate has 0.30, edge 1's 0.35 although its `none` is largest."""
    space = SearchSpace({"normal": CellSpace((NONE, "skip_connect"), num_nodes=1, keep=1)})
    ops = torch.tensor([[0.70, 0.30], [0.65, 0.35]])
    genotype = ArgMax()(Mixture({"normal": CellMixture(ops)}), space)
    assert genotype.cells["normal"].nodes == ((Edge("skip_connect", 1),),)


def test_edge_weights_decide_between_edges():
    space = SearchSpace({"normal": CellSpace((NONE, "skip_connect"), num_nodes=1, keep=1)})
    ops, edges = torch.tensor([[0.4, 0.6], [0.5, 0.5]]), torch.tensor([0.1, 0.9])
    genotype = ArgMax()(Mixture({"normal": CellMixture(ops, edges)}), space)
    assert genotype.cells["normal"].nodes == ((Edge("skip_connect", 1),),)


def test_equal_weights_keep_the_first_edges_and_candidates():
    uniform = {kind: CellMixture(torch.full((14, 8), 1 / 8)) for kind in DARTS.cells}
    cell = ArgMax()(Mixture(uniform), DARTS).cells["normal"]
    assert cell.nodes == ((Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1)),) * 4


@pytest.mark.parametrize("seed", range(5))
def test_a_one_hot_mixture_of_a_genotype_gives_it_back(seed: int):
    genotype = DARTS.sample(random.Random(seed))
    cells = {}
    for kind, cell in DARTS.cells.items():
        ops = torch.zeros(14, 8)
        ops[:, 0] = 1.0  # everything `none` ...
        for node, edges in enumerate(genotype.cells[kind].nodes):
            for edge in edges:
                row = cell.edges.index((node, edge.source))
                ops[row] = torch.eye(8)[cell.candidates[row].index(edge.op)]  # ... but these
        cells[kind] = CellMixture(ops)
    assert ArgMax()(Mixture(cells), DARTS) == genotype


def test_keep_none_keeps_every_edge():
    cell = CellSpace((NONE, "skip_connect"), num_nodes=3, num_inputs=1, keep=None)
    space = SearchSpace({"normal": cell})
    genotype = ArgMax()(mixture_of(space, 0), space)
    assert [len(edges) for edges in genotype.cells["normal"].nodes] == [1, 2, 3]


def test_none_is_derived_where_the_space_lets_it():
    space = SearchSpace.named("nasbench201")
    cell = space.cells["normal"]
    ops = torch.eye(5)[[0, 3, 1, 0, 2, 4]]
    genotype = ArgMax()(Mixture({"normal": CellMixture(ops)}), space)
    assert genotype.to_arch_string() == (
        "|none~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|nor_conv_1x1~1|avg_pool_3x3~2|"
    )
    assert genotype.cells["normal"].output == cell.output == (3,)


# At most so many skip connections


def skips_of(cell: CellGenotype) -> int:
    return sum(edge.op == "skip_connect" for node in cell.nodes for edge in node)


def without(mixture: CellMixture, space: CellSpace, edge: int, name: str):
    """The same with a candidate less on one edge."""
    column = space.candidates[edge].index(name)
    ops = mixture.ops.clone()
    ops[edge, column:-1] = mixture.ops[edge, column + 1 :]
    names = [n for n in space.candidates[edge] if n != name]
    narrow = space.restrict({edge: names})
    return CellMixture(ops[:, : narrow.num_candidates], mixture.edges), narrow


def limited(mixture: CellMixture, space: CellSpace, limit: int) -> CellGenotype:
    """Slowly: restrict the space by the weakest skip connection of the cell, derive, repeat."""
    cell = ArgMax()(Mixture({"normal": mixture}), SearchSpace({"normal": space})).cells["normal"]
    if skips_of(cell) <= limit:
        return cell
    chosen = {
        space.edges.index((node, edge.source))
        for node, edges in enumerate(cell.nodes)
        for edge in edges
        if edge.op == "skip_connect"
    }
    edges = mixture.edges if mixture.edges is not None else torch.ones(len(space.edges))
    strength = {
        e: mixture.ops[e, space.candidates[e].index("skip_connect")] * edges[e] for e in chosen
    }
    weakest = min(strength, key=lambda e: float(strength[e]))
    return limited(*without(mixture, space, weakest, "skip_connect"), limit)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), limit=st.integers(0, 4), has_edge_weights=st.booleans())
def test_a_limit_removes_the_weakest_skips_of_the_normal_cell_and_derives_again(
    seed: int, limit: int, has_edge_weights: bool
):
    mixture = mixture_of(DARTS, seed, edges=has_edge_weights)
    for kind in ("normal", "reduce"):  # skips are favoured
        mixture[kind].ops[:, 3] += 0.1
    free, found = (ArgMax(limit)(mixture, DARTS) for limit in (None, limit))
    assert skips_of(found.cells["normal"]) <= limit
    assert found.cells["reduce"] == free.cells["reduce"]
    assert found.cells["normal"] == limited(mixture["normal"], DARTS.cells["normal"], limit)


def test_an_edge_with_nothing_but_a_skip_gives_way_or_keeps_it():
    names = (("skip_connect",), ("sep_conv_3x3",), ("sep_conv_3x3",))
    mixture = Mixture({"normal": CellMixture(torch.tensor([[0.9], [0.5], [0.2]]))})
    found = []
    for keep in (2, 3):
        cell = CellSpace(names, num_nodes=1, num_inputs=3, keep=keep)
        found.append(ArgMax(0)(mixture, SearchSpace({"normal": cell})).cells["normal"].nodes[0])
    assert found[0] == (Edge("sep_conv_3x3", 1), Edge("sep_conv_3x3", 2))
    assert found[1][0] == Edge("skip_connect", 0)


def test_a_limit_is_for_normal_cells():
    chain = SearchSpace.chain([["skip_connect", "mbconv3_3x3"]], [], [1])
    assert ArgMax().fits(chain) is None and ArgMax(2).fits(DARTS) is None
    reason = ArgMax(2).fits(chain)
    assert reason is not None and reason.startswith("max_skips=2 is for normal cells")


def test_a_limit_is_not_negative():
    with pytest.raises(ValueError, match=r"discretizer\.max_skips must not be negative, got -1"):
        ArgMax(-1)
