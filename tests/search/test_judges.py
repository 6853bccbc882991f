"""Judges, and what all searches over cells have in common."""

import random
from dataclasses import dataclass, replace

import pytest

from darts_gdas.search import Evolution, Known, Reinforce, SharedWeights, Untrained
from darts_gdas.search.judges import Judge, JudgedSelection, Trials
from darts_gdas.search.one_hot import one_hot
from darts_gdas.space import Genotype
from tests.search.test_selection import BENCH, DARTS, Recorder, best_cells, sum_of, values_of

SEARCHES = [Evolution, Reinforce]


def test_each_judge_asks_its_own_source():
    score = sum_of(values_of(BENCH, 0))
    cell = BENCH.sample(random.Random(0))
    probe = replace(
        Recorder(BENCH, score).probe,
        scores=lambda genotype, names, repeat: {name: 3.0 * repeat for name in names},
        known=lambda genotype: 93.5,
    )
    assert SharedWeights()(cell, probe) == score(one_hot(cell, BENCH))
    assert Known()(cell, probe) == 93.5
    assert Untrained("synflow", repeats=3)(cell, probe) == 3.0  # the mean of 0, 3, 6
    assert Untrained("synflow").asked_scores == ("synflow",) and SharedWeights().asked_scores == ()
    assert [j.needs_training for j in (SharedWeights(), Known(), Untrained())] == [
        True,
        False,
        False,
    ]
    with pytest.raises(ValueError, match=r"discretizer.judge.repeats must be at least 1, got 0"):
        Untrained(repeats=0)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_needs_what_its_judge_needs(search: type):
    assert not search().needs_no_training and not search().needs_table
    assert search(judge=Known()).needs_no_training and search(judge=Known()).needs_table
    assert search(judge=Untrained("naswot")).asked_scores == ("naswot",)


def test_a_cell_is_judged_once_and_the_first_of_equals_is_best():
    recorder = Recorder(BENCH, lambda mixture: 0.5)
    trials = Trials(SharedWeights(), recorder.probe, 3)
    first, second = (BENCH.sample(random.Random(seed)) for seed in (0, 1))
    assert [trials(cell) for cell in (first, second, first)] == [0.5] * 3
    assert len(recorder.asked) == 2 and trials.best == first
    assert recorder.reports == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("space", [DARTS, BENCH], ids=["darts", "nasbench201"])
def test_it_asks_as_often_as_it_may_and_returns_the_best(search: type, space):
    recorder = Recorder(space, sum_of(values_of(space, 2)))
    found = search(count=30).select(recorder.probe)
    assert recorder.reports == [(done, 30) for done in range(31)]
    score = sum_of(values_of(space, 2))
    assert score(one_hot(found, space)) == max(score(mixture) for mixture in recorder.asked)
    again = search(count=30).select(Recorder(space, score).probe)
    assert again == found  # a function of the seed


@pytest.mark.parametrize("search", [Evolution(count=150), Reinforce(count=150, lr=0.2)], ids=type)
def test_it_learns(search: JudgedSelection):
    """Better than as many random cells, on the mean over ten seeds of a sum without interactions.

    At AutoDL-Projects's rate REINFORCE has hardly begun after so few cells.
    """
    values = values_of(BENCH, 3)
    score = sum_of(values)
    found, random_best = [], []
    for seed in range(10):
        cell = search.select(Recorder(BENCH, score, seed=seed).probe)
        found.append(score(one_hot(cell, BENCH)))
        rng = random.Random(100 + seed)
        drawn = [BENCH.sample(rng) for _ in range(150)]
        random_best.append(max(score(one_hot(genotype, BENCH)) for genotype in drawn))
    assert sum(found) > sum(random_best)
    assert max(found) <= score(one_hot(best_cells(BENCH, values), BENCH))


@dataclass
class Nothing(Judge):
    """A judge that knows no cell."""

    def __call__(self, genotype: Genotype, trained: object) -> float:
        return -float("inf")


@pytest.mark.parametrize("search", SEARCHES)
def test_cells_without_a_value_are_no_error(search: type):
    recorder = Recorder(BENCH, lambda mixture: 0.0, seed=5)
    one_hot(search(count=12, judge=Nothing()).select(recorder.probe), BENCH)
    assert recorder.reports[-1] == (12, 12)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_count_below_one_is_refused(search: type):
    with pytest.raises(ValueError, match=r"discretizer.count must be at least 1, got 0"):
        search(count=0)
