"""Search spaces: wiring, counting, sampling, and every error message."""

import copy
import pickle
import random
from collections import Counter
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_gdas.space import DARTS_CANDIDATES, NONE, CellGenotype, CellSpace, SearchSpace
from tests.oracles import enumerate_cells, wiring

sizes = {"num_nodes": st.integers(1, 6), "num_inputs": st.integers(1, 4)}


def flat(*names: str, **numbers: Any) -> CellSpace:
    """A space with the same candidates on every edge."""
    return CellSpace(names, **numbers)  # type: ignore[arg-type]


@st.composite
def spaces(draw: st.DrawFn) -> CellSpace:
    """Small spaces with candidates of their own on every edge and any wiring."""
    num_nodes, num_inputs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    predecessors = tuple(
        tuple(draw(st.sets(st.integers(0, num_inputs + node - 1), min_size=1)))
        for node in range(num_nodes)
    )
    fewest = min(map(len, predecessors))
    keep = draw(st.sampled_from([None, *range(1, fewest + 1)]))
    names = st.lists(st.sampled_from([NONE, "a", "b", "c"]), min_size=1, max_size=3, unique=True)
    candidates = tuple(
        tuple(draw(names.filter(lambda chosen: chosen != [NONE])))
        for _ in wiring(num_nodes, num_inputs, predecessors)
    )
    return CellSpace(candidates, num_nodes, num_inputs, keep, predecessors=predecessors)


# Wiring


@given(**sizes)
@settings(deadline=None)
def test_every_node_is_wired_to_all_earlier_states(num_nodes: int, num_inputs: int):
    space = flat("a", num_nodes=num_nodes, num_inputs=num_inputs, keep=1)
    assert list(space.edges) == wiring(num_nodes, num_inputs)


@given(**sizes)
@settings(deadline=None)
def test_edges_into_are_the_positions_of_a_node(num_nodes: int, num_inputs: int):
    space = flat("a", num_nodes=num_nodes, num_inputs=num_inputs, keep=1)
    for node in range(num_nodes):
        positions = [i for i, (target, _) in enumerate(space.edges) if target == node]
        assert list(space.edges_into(node)) == positions


@given(spaces())
@settings(deadline=None)
def test_nodes_are_wired_to_the_states_that_they_may_read(space: CellSpace):
    pairs = wiring(space.num_nodes, space.num_inputs, space.predecessors)
    assert list(space.edges) == pairs
    for node in range(space.num_nodes):
        into = [i for i, (target, _) in enumerate(pairs) if target == node]
        assert list(space.edges_into(node)) == into


def test_predecessors_are_stored_in_one_form():
    """Sorted; and a node that may read everything is one without a list."""
    some = flat("a", num_nodes=2, predecessors=((1, 0), (2, 0)))
    assert some.predecessors == ((0, 1), (0, 2))
    assert flat("a", num_nodes=2, predecessors=((1, 0), (2, 0, 1))) == flat("a", num_nodes=2)


@given(**sizes)
@settings(deadline=None)
def test_the_output_is_every_node_and_no_input(num_nodes: int, num_inputs: int):
    space = flat("a", num_nodes=num_nodes, num_inputs=num_inputs, keep=1)
    assert space.output == tuple(num_inputs + node for node in range(num_nodes))


def test_darts_has_14_edges_and_8_candidates_per_kind():
    space = SearchSpace.named("darts")
    assert list(space.cells) == ["normal", "reduce"]
    assert space.edges == tuple(wiring(4, 2))
    assert len(space.edges) == 14
    for cell in space.cells.values():
        assert cell.candidates == (DARTS_CANDIDATES,) * 14
        assert (cell.num_candidates, cell.keep, cell.output) == (8, 2, (2, 3, 4, 5))


def test_a_flat_list_of_candidates_stands_for_every_edge():
    assert flat("a", NONE, num_nodes=2) == CellSpace((("a", NONE),) * 5, num_nodes=2)


def test_num_candidates_is_the_longest_list():
    space = CellSpace((("a",), ("a", "b", NONE)), num_nodes=1)
    assert space.num_candidates == 3


@given(spaces())
@settings(deadline=None)
def test_derivable_candidates_are_all_but_none_in_order(space: CellSpace):
    for edge, names in enumerate(space.candidates):
        derivable = space.derivable(edge)
        assert NONE not in derivable
        assert set(derivable) == set(names) - {NONE}
        assert sorted(derivable, key=names.index) == list(derivable)


@given(spaces())
@settings(deadline=None)
def test_spaces_are_values(space: CellSpace):
    both = SearchSpace({"normal": space})
    for clone in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert clone == both
        assert hash(clone) == hash(both)


# Counting


@given(spaces())
@settings(deadline=None)
def test_num_cells_is_what_enumeration_finds(space: CellSpace):
    assert space.num_cells == len(enumerate_cells(space))


@pytest.mark.parametrize("keep", [1, 2, 3, None])
@pytest.mark.parametrize("num_nodes", [1, 3, 4])
def test_num_cells_with_equal_candidates_is_a_product_of_binomials(
    keep: int | None, num_nodes: int
):
    space = CellSpace(
        DARTS_CANDIDATES,  # type: ignore[arg-type]
        num_nodes=num_nodes,
        num_inputs=3,
        keep=keep,
    )
    expected = 1
    for node in range(num_nodes):
        kept = 3 + node if keep is None else keep
        expected *= comb(3 + node, kept) * 7**kept
    assert space.num_cells == expected


def test_the_darts_space_has_1_037_664_180_cells():
    assert 1 * 3 * 6 * 10 * 7**8 == 1_037_664_180
    for cell in SearchSpace.named("darts").cells.values():
        assert cell.num_cells == 1_037_664_180


def test_without_keep_every_edge_holds_one_of_seven():
    cell = CellSpace(DARTS_CANDIDATES, keep=None)  # type: ignore[arg-type]
    assert cell.num_cells == 7**14


# Sampling


@given(spaces(), st.integers(0, 2**32))
@settings(deadline=None)
def test_samples_are_cells_that_derivation_can_return(space: CellSpace, seed: int):
    assert space.sample(random.Random(seed)) in enumerate_cells(space)


@pytest.mark.parametrize("make_rng", [random.Random, np.random.default_rng])
@pytest.mark.parametrize("keep", [1, 2])
def test_samples_keep_distinct_sources_and_never_none(make_rng, keep: int):
    rng = make_rng(0)
    space = SearchSpace.darts(keep=keep)
    for genotype in (space.sample(rng) for _ in range(200)):
        assert list(genotype.cells) == ["normal", "reduce"]
        assert NONE not in genotype.operations
        for cell in genotype.cells.values():
            assert (cell.num_inputs, cell.output) == (2, (2, 3, 4, 5))
            for edges in cell.nodes:
                assert len({edge.source for edge in edges}) == len(edges) == keep


@pytest.mark.parametrize("keep", [1, 2, None])
@pytest.mark.parametrize("make_rng", [random.Random, np.random.default_rng])
def test_samples_are_uniform_where_edges_have_equal_candidates(keep: int | None, make_rng):
    """Pearson's statistic has mean k and variance 2 k, k the degrees of freedom."""
    space = flat(NONE, "a", "b", num_nodes=2, keep=keep)
    rng, draws = make_rng(1), 20_000
    counts: Counter[CellGenotype] = Counter(space.sample(rng) for _ in range(draws))
    cells = enumerate_cells(space)
    assert set(counts) == cells
    expected = draws / len(cells)
    statistic = sum((counts[cell] - expected) ** 2 / expected for cell in cells)
    freedom = len(cells) - 1
    assert abs(statistic - freedom) < 5 * (2 * freedom) ** 0.5  # 5 sigma


@pytest.mark.parametrize("make_rng", [random.Random, np.random.default_rng])
def test_the_same_seed_gives_the_same_genotype(make_rng):
    space = SearchSpace.named("darts")
    assert space.sample(make_rng(3)) == space.sample(make_rng(3))
    assert space.sample(make_rng(3)) != space.sample(make_rng(4))


def test_the_kinds_are_drawn_one_after_the_other():
    space, rng = SearchSpace.named("darts"), random.Random(5)
    by_hand = {kind: space.cells[kind].sample(rng) for kind in ("normal", "reduce")}
    assert space.sample(random.Random(5)).cells == by_hand
    assert by_hand["normal"] != by_hand["reduce"]


def test_without_keep_a_sample_holds_every_edge():
    cell = flat("a", "b", num_nodes=3, num_inputs=1, keep=None).sample(random.Random(0))
    assert [[edge.source for edge in edges] for edges in cell.nodes] == [[0], [0, 1], [0, 1, 2]]


# Restriction


@given(spaces(), st.data())
@settings(deadline=None)
def test_a_restricted_space_has_exactly_the_cells_of_the_names_that_stay(
    space: CellSpace, data: st.DataObject
):
    kept = {
        edge: data.draw(st.sets(st.sampled_from(space.derivable(edge)), min_size=1))
        for edge in data.draw(st.sets(st.integers(0, len(space.edges) - 1)))
    }
    smaller = space.restrict({edge: sorted(names) for edge, names in kept.items()})
    for edge, names in enumerate(space.candidates):
        allowed = kept.get(edge, set(names))
        assert smaller.candidates[edge] == tuple(name for name in names if name in allowed)

    def is_allowed(cell: CellGenotype) -> bool:
        return all(
            edge.op in kept.get(space.edges.index((node, edge.source)), {edge.op})
            for node, edges in enumerate(cell.nodes)
            for edge in edges
        )

    assert enumerate_cells(smaller) == set(filter(is_allowed, enumerate_cells(space)))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({0: []}, r"edge 0 would be left with \[\]"),
        ({1: [NONE]}, r"edge 1 would be left with \['none'\]"),
        ({0: ["b"]}, r"edge 0 has no candidates \['b'\], only \('none', 'a'\)"),
        ({2: ["a"]}, r"there is no edge 2; edges lie in 0\.\.1"),
    ],
)
def test_an_impossible_restriction_is_an_error(chosen: dict[int, list[str]], message: str):
    with pytest.raises(ValueError, match=message):
        flat(NONE, "a", num_nodes=1).restrict(chosen)


# Error messages


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_nodes": 0}, r"space\.num_nodes must be at least 1, got 0"),
        ({"num_inputs": 0}, r"space\.num_inputs must be at least 1, got 0"),
        ({"keep": 3}, r"space\.keep must lie in 1\.\.2, got 3: node 0 has only 2 pred"),
        ({"keep": 0}, r"space\.keep must lie in 1\.\.2, got 0"),
        ({"num_inputs": 1}, r"space\.keep must lie in 1\.\.1, got 2"),
        (
            {"num_nodes": 2, "predecessors": ((0, 1), (2,))},
            r"space\.keep must lie in 1\.\.1, got 2: node 1 has only 1 predecessors",
        ),
        ({"num_nodes": 2, "predecessors": ((0, 1),)}, "one list per node, 2 here, got 1"),
        ({"num_nodes": 1, "predecessors": ((),)}, r"node 0 must be distinct .* got \[\]"),
        ({"num_nodes": 1, "predecessors": ((0, 0),)}, r"must be distinct .* got \[0, 0\]"),
        ({"num_nodes": 1, "predecessors": ((0, 2),)}, r"must lie in 0\.\.1, got \[0, 2\]"),
        ({"num_nodes": 1, "predecessors": ((-1, 0),)}, r"must lie in 0\.\.1, got \[-1, 0\]"),
        (
            {"num_nodes": 2, "predecessors": ((0, 1), (0, 1)), "ends_in_last_node": True},
            r"no node reads node 0 \(state 2\), and the last node alone leaves",
        ),
    ],
)
def test_impossible_numbers_are_errors(numbers: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        flat("a", **numbers)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (("a", "b", "a"), r"candidates must be distinct, got \['a', 'b', 'a'\]"),
        ((NONE,), r"something besides 'none' on every edge, got \['none'\]"),
        ((), r"something besides 'none' on every edge, got \[\]"),
        ((("a",), (NONE,)), r"something besides 'none' on every edge, got \['none'\]"),
        ((("a",), ("b", "b")), r"candidates must be distinct, got \['b', 'b'\]"),
        ((("a",),), "one list per edge, 2 here, got 1"),
        ((("a",),) * 3, "one list per edge, 2 here, got 3"),
    ],
)
def test_impossible_candidates_are_errors(candidates, message: str):
    with pytest.raises(ValueError, match=message):
        CellSpace(candidates, num_nodes=1)
