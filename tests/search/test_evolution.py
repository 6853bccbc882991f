"""Regularised evolution: what a mutation may do, and that a large budget finds the best cell."""

import random

import pytest

from darts_gdas.search import Evolution
from darts_gdas.search.evolution import mutated
from darts_gdas.search.one_hot import one_hot
from darts_gdas.space import CellSpace, SearchSpace
from tests.search.test_selection import BENCH, DARTS, Recorder, best_cells, sum_of, values_of

S1 = SearchSpace.named("s1")  # edges whose candidates may have nothing in common


@pytest.mark.parametrize("space", [DARTS, BENCH, S1], ids=["darts", "nasbench201", "s1"])
def test_a_mutant_is_of_the_space_and_differs_in_one_edge(space: SearchSpace):
    rng = random.Random(0)
    cell = space.sample(rng)
    for _ in range(200):
        child = mutated(cell, space, rng)
        one_hot(child, space)  # raises where the cell is not of the space
        changed = 0
        for kind in space.cells:
            for old, new in zip(cell.cells[kind].nodes, child.cells[kind].nodes, strict=True):
                assert [e.source for e in new] == sorted({e.source for e in new})
                assert len(old) == len(new)
                changed += len(set(new) - set(old))
        assert changed == 1
        cell = child


def test_mutations_reach_every_cell():
    cell = CellSpace(("none", "skip_connect", "max_pool_3x3"), num_nodes=2, keep=1)
    space = SearchSpace({"normal": cell, "reduce": cell})
    rng, seen = random.Random(0), set()
    genotype = space.sample(rng)
    for _ in range(20_000):
        seen.add(genotype)
        genotype = mutated(genotype, space, rng)
    assert len(seen) == cell.num_cells**2 == (4 * 6) ** 2


def test_in_a_space_of_one_cell_it_comes_back():
    space = SearchSpace({"normal": CellSpace(("skip_connect",), num_nodes=1, num_inputs=2)})
    cell = space.sample(random.Random(0))
    assert mutated(cell, space, random.Random(0)) == cell


@pytest.mark.parametrize("seed", range(3))
def test_a_budget_beyond_a_small_space_finds_its_best_cell(seed: int):
    small = SearchSpace.nasbench201(candidates=("none", "skip_connect"))  # 64 cells
    values = values_of(small, seed)
    recorder = Recorder(small, sum_of(values), seed=seed)
    assert Evolution(count=1000).select(recorder.probe) == best_cells(small, values)
    assert len(recorder.asked) <= 64


def test_the_oldest_dies_not_the_worst():
    """With one member the parent is always the youngest, however bad: a random walk."""
    recorder = Recorder(BENCH, sum_of(values_of(BENCH, 0)), seed=4)
    Evolution(count=30, population=1, tournament=1).select(recorder.probe)
    rng = random.Random(4)
    walk = [BENCH.sample(rng)]
    for _ in range(29):
        rng.choices([0], k=1)
        walk.append(mutated(walk[-1], BENCH, rng))
    expected = [one_hot(cell, BENCH)["normal"].active for cell in dict.fromkeys(walk)]
    assert [mixture["normal"].active for mixture in recorder.asked] == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 0}, "discretizer.population must be at least 1, got 0"),
        ({"tournament": 0}, "discretizer.tournament must be at least 1, got 0"),
        ({"count": 5}, "discretizer.population=10 exceeds discretizer.count=5"),
    ],
)
def test_values_without_meaning_are_refused(settings: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        Evolution(**settings)
