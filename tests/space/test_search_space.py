"""Search spaces: kinds, published spaces by name, restriction, and every error message."""

import random
from collections import Counter

import pytest

from darts_gdas.space import CellGenotype, Edge, Genotype, SearchSpace
from tests.oracles import enumerate_cells, wiring
from tests.space.test_cell import flat

# Kinds that differ


def test_kinds_with_other_candidates_share_their_edges():
    space = SearchSpace({"normal": flat("a", num_nodes=2), "reduce": flat("b", num_nodes=2)})
    assert space.edges == tuple(wiring(2, 2))


def test_kinds_that_are_wired_differently_have_no_common_edges():
    space = SearchSpace({"normal": flat("a", num_nodes=2), "reduce": flat("a", num_nodes=3)})
    with pytest.raises(ValueError, match=r"wired differently; ask space\.cells\[kind\]\.edges"):
        _ = space.edges


def test_an_unknown_space_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown space 'cifar'; known: .*darts"):
        SearchSpace.named("cifar")


def test_a_space_without_kinds_is_an_error():
    with pytest.raises(ValueError, match="at least one kind of cell"):
        SearchSpace({})


def test_nas_bench_201_is_a_space_like_others():
    space = SearchSpace.named("nasbench201")
    (cell,) = space.cells.values()
    assert (len(cell.edges), cell.num_candidates, cell.num_cells) == (6, 5, 15_625)
    assert cell.output == (3,)
    rng = random.Random(0)
    drawn = Counter(edge.op for _ in range(500) for n in cell.sample(rng).nodes for edge in n)
    # 3,000 draws of five operations: sigma = sqrt(3000 * 0.2 * 0.8) = 22.
    assert set(drawn) == set(cell.candidates[0])
    assert all(abs(count - 600) < 5 * 22 for count in drawn.values())


# S1 to S4


@pytest.mark.parametrize("name", ["s1", "s2", "s3", "s4"])
def test_s1_to_s4_are_wired_as_darts_and_offer_two_final_operations_per_edge(name: str):
    """1 * 3 * 6 * 10 choices of edges, two operations on each of eight."""
    space = SearchSpace.named(name)
    assert list(space.cells) == ["normal", "reduce"]
    assert space.edges == SearchSpace.named("darts").edges
    for cell in space.cells.values():
        assert all(len(cell.derivable(edge)) == 2 for edge in range(14))
        assert (cell.keep, cell.num_cells) == (2, 180 * 2**8)


def test_a_restricted_space_differs_in_the_named_kind_alone():
    space = SearchSpace.named("s3")
    smaller = space.restrict({"reduce": {13: ["none", "sep_conv_3x3"]}})
    assert smaller.cells["normal"] == space.cells["normal"]
    assert smaller.cells["reduce"].candidates[13] == ("none", "sep_conv_3x3")
    assert len(enumerate_cells(flat("a", "b", num_nodes=1).restrict({0: ["b"]}))) == 2


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"normal": {3: []}}, r"normal cell: edge 3 would be left with \[\]"),
        ({"other": {}}, r"no cells of kind \['other'\], only \['normal', 'reduce'\]"),
    ],
)
def test_an_impossible_restriction_is_an_error(chosen, message: str):
    with pytest.raises(ValueError, match=message):
        SearchSpace.named("s2").restrict(chosen)


# Kinds that are not searched

POOLED = CellGenotype(((Edge("max_pool_3x3", 0), Edge("avg_pool_3x3", 1)),), (2,))


def test_every_genotype_of_a_space_has_its_fixed_cells():
    space = SearchSpace.named("darts").fix({"reduce": POOLED})
    assert list(space.cells) == ["normal"] and dict(space.fixed) == {"reduce": POOLED}
    drawn = [space.sample(random.Random(seed)) for seed in range(3)]
    assert all(genotype.cells["reduce"] == POOLED for genotype in drawn)
    assert len({genotype.cells["normal"] for genotype in drawn}) == 3
    normal = drawn[0].cells["normal"]
    assert space.genotype({"normal": normal}) == Genotype({"normal": normal, "reduce": POOLED})
    assert Genotype.from_json(drawn[0].to_json()) == drawn[0]


def test_what_enters_and_leaves_is_known_of_all_kinds():
    space = SearchSpace.darts(num_nodes=3, keep=1).fix({"reduce": POOLED})
    assert space.num_inputs == {"normal": 2, "reduce": 2}
    assert space.num_outputs == {"normal": 3, "reduce": 1}


def test_a_restricted_space_keeps_its_fixed_cells():
    space = SearchSpace.named("s3").fix({"reduce": POOLED})
    assert space.restrict({"normal": {0: ["skip_connect"]}}).fixed == space.fixed


def test_spaces_with_fixed_cells_are_values():
    space = SearchSpace.named("darts")
    assert space.fix({"reduce": POOLED}) == space.fix({"reduce": POOLED}) != space
    assert len({space.fix({"reduce": POOLED}), space.fix({"reduce": POOLED}), space}) == 2


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["other"], r"no cells of kind \['other'\], only \['normal', 'reduce'\]"),
        (["normal", "reduce"], "needs at least one kind of cell"),
    ],
)
def test_what_cannot_be_fixed_is_an_error(kinds: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        SearchSpace.named("darts").fix(dict.fromkeys(kinds, POOLED))


def test_a_kind_is_searched_or_fixed():
    cells = SearchSpace.named("darts").cells
    with pytest.raises(ValueError, match=r"kind \['reduce'\] are both searched and fixed"):
        SearchSpace(cells, {"reduce": POOLED})
