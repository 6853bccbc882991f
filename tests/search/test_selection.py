"""Selections on probes with known answers: no network, only functions of a mixture."""

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.search import ArchParameters, ArgMax, BestOfSamples, PerturbationSelection, Softmax
from darts_gdas.search.one_hot import one_hot
from darts_gdas.search.selection import TrainedSupernet
from darts_gdas.space import CellSpace, Edge, Genotype, SearchSpace

DARTS = SearchSpace.darts(num_nodes=3)
BENCH = SearchSpace.named("nasbench201")


def values_of(space: SearchSpace, seed: int) -> dict[str, Tensor]:
    """What every candidate on every edge is worth, by kind."""
    generator = torch.Generator().manual_seed(seed)
    return {
        kind: torch.rand(len(cell.edges), cell.num_candidates, generator=generator).double()
        for kind, cell in space.cells.items()
    }


def no_scores(genotype: Genotype, names: Sequence[str], repeat: int) -> dict[str, float]:
    raise AssertionError("these selections ask the weights alone")


def never() -> Genotype:
    raise AssertionError("no penalty limits what is found")


class Recorder:
    """A probe's functions: an accuracy that sums up what the present candidates are worth."""

    def __init__(self, space: SearchSpace, accuracy: Callable[[Mixture], float], seed: int = 0):
        self.asked: list[Mixture] = []
        self.tuned: list[tuple[Mixture, float, int, int]] = []
        self.reports: list[tuple[int, int]] = []
        self._accuracy = accuracy
        mixture = Softmax().expected(ArchParameters(space, scale=0.1).double())
        self.probe = TrainedSupernet(
            space=space,
            mixture=mixture,
            accuracy=self.accuracy,
            tune=self.tune,
            rng=random.Random(seed),
            report=lambda done, total: self.reports.append((done, total)),
            scores=no_scores,
            allows=lambda genotype: True,
            likeliest=never,
        )

    def accuracy(self, mixture: Mixture) -> float:
        self.asked.append(mixture)
        return self._accuracy(mixture)

    def tune(self, mixture: Mixture, *, lr: float, epoch: int, num_epochs: int) -> None:
        self.tuned.append((mixture, lr, epoch, num_epochs))


def sum_of(values: dict[str, Tensor]) -> Callable[[Mixture], float]:
    """Presence counts, not weight: what is left out takes its worth with it."""
    return lambda mixture: float(
        sum(((mixture[kind].ops != 0) * worth).sum() for kind, worth in values.items())
    )


def best_cells(space: SearchSpace, values: dict[str, Tensor]) -> Genotype:
    """Per edge the best candidate, per node the best edges: `ArgMax` of the worths."""
    return ArgMax()(Mixture({k: CellMixture(v) for k, v in values.items()}), space)


@pytest.mark.parametrize("space", [DARTS, BENCH], ids=["darts", "nasbench201"])
@pytest.mark.parametrize("seed", range(3))
def test_where_worths_add_up_the_perturbation_finds_the_best_cell(space: SearchSpace, seed: int):
    """Without interactions the best is known, and no order of decisions may matter."""
    values = values_of(space, seed)
    for order in range(3):
        recorder = Recorder(space, sum_of(values), seed=order)
        selection = PerturbationSelection(tune_epochs=1)
        assert selection.select(recorder.probe) == best_cells(space, values)


def test_it_asks_the_weights_not_the_alphas():
    """The opposite of the alphas' favourites has the largest effect, and is chosen."""
    values = values_of(DARTS, 0)
    recorder = Recorder(DARTS, sum_of(values))
    misleading = Mixture({k: CellMixture((-9 * v).softmax(-1)) for k, v in values.items()})
    probe = TrainedSupernet(DARTS, misleading, recorder.accuracy, recorder.tune, random.Random(0),
                  lambda done, total: None, no_scores, lambda genotype: True, never)  # fmt: skip
    found = PerturbationSelection(tune_epochs=0).select(probe)
    assert found == best_cells(DARTS, values) != ArgMax()(misleading, DARTS)


@pytest.mark.parametrize("seed", range(5))
def test_a_decision_sees_the_decisions_before_it(seed: int):
    """Two operations that are good where they differ: decided apart, both edges would agree.

    One node, two inputs, both edges stay. Either edge alone would keep the candidate with the
    smaller product of weights, the same on both.
    """
    space = SearchSpace({"normal": CellSpace(("skip_connect", "sep_conv_3x3"), num_nodes=1)})  # type: ignore[arg-type]

    def accuracy(mixture: Mixture) -> float:
        ops = mixture["normal"].ops
        return 1 - float((ops[0] * ops[1]).sum())

    recorder = Recorder(space, accuracy, seed)
    found = PerturbationSelection(tune_epochs=0).select(recorder.probe)
    first, second = found.cells["normal"].nodes[0]
    assert {first.op, second.op} == {"skip_connect", "sep_conv_3x3"}


def test_every_evaluation_leaves_one_thing_out():
    """14 edges of 7 candidates and 3 nodes with too many edges, per kind; see algorithm 1."""
    space = SearchSpace.named("darts")
    recorder = Recorder(space, sum_of(values_of(space, 0)))
    PerturbationSelection(tune_epochs=2).select(recorder.probe)
    assert len(recorder.asked) == 2 * (14 * 7 + (3 + 4 + 5))
    full = [int((recorder.probe.mixture[kind].ops != 0).sum()) for kind in space.cells]
    first = recorder.asked[0]
    assert [int((first[kind].ops != 0).sum()) for kind in space.cells] == [full[0] - 1, full[1]]
    # 17 rounds; the schedule counts the 16 tunings of two epochs.
    assert [epoch for _, _, epoch, _ in recorder.tuned] == list(range(32))
    assert {(lr, total) for _, lr, _, total in recorder.tuned} == {(0.0025, 32)}
    pieces = len(recorder.asked) + len(recorder.tuned)
    assert recorder.reports == [(done, pieces) for done in range(pieces + 1)]


def test_decided_edges_run_alone_and_at_full_weight():
    recorder = Recorder(DARTS, sum_of(values_of(DARTS, 0)))
    PerturbationSelection(tune_epochs=1).select(recorder.probe)
    for done, (mixture, *_) in enumerate(recorder.tuned, start=1):
        for kind, cell in mixture.items():
            decided = (cell.ops == 1).any(-1)
            num_edges = len(DARTS.cells[kind].edges)
            if done < num_edges:
                assert int(decided.sum()) == done and cell.active is None
                untouched = recorder.probe.mixture[kind].ops[~decided]
                assert torch.equal(cell.ops[~decided], untouched)
            else:
                assert cell.active == tuple(cell.ops.argmax(-1).tolist())


def test_edge_weights_scale_what_is_not_decided():
    values = values_of(DARTS, 0)
    recorder = Recorder(DARTS, sum_of(values))
    halves = Mixture(
        {
            kind: CellMixture(cell.ops, torch.full((len(cell.ops),), 0.5).double())
            for kind, cell in recorder.probe.mixture.items()
        }
    )
    probe = TrainedSupernet(DARTS, halves, recorder.accuracy, recorder.tune, random.Random(0),
                  lambda done, total: None, no_scores, lambda genotype: True, never)  # fmt: skip
    PerturbationSelection().select(probe)
    first = recorder.asked[0]["normal"]
    assert first.edges is None
    ratio = first.ops / halves["normal"].ops
    assert set(ratio.unique().tolist()) == {0.0, 0.5}


@pytest.mark.parametrize("space", [DARTS, BENCH], ids=["darts", "nasbench201"])
def test_the_best_sample_is_the_best_of_the_cells_that_the_seed_draws(space: SearchSpace):
    values = values_of(space, 1)
    score = sum_of(values)
    found = BestOfSamples(count=40).select(Recorder(space, score, seed=7).probe)
    rng = random.Random(7)
    drawn = [space.sample(rng) for _ in range(40)]
    assert found == max(drawn, key=lambda genotype: score(one_hot(genotype, space)))


def test_a_cell_drawn_twice_is_evaluated_once():
    small = SearchSpace.nasbench201(candidates=("none", "skip_connect"))  # 64 cells
    recorder = Recorder(small, sum_of(values_of(small, 0)))
    found = BestOfSamples(count=3000).select(recorder.probe)
    assert len(recorder.asked) == 64  # a cell is missed with probability (63/64)^3000 = 3e-21
    assert found == best_cells(small, values_of(small, 0))


def test_one_sample_is_a_random_cell_and_asks_nothing():
    recorder = Recorder(BENCH, sum_of(values_of(BENCH, 0)), seed=3)
    assert BestOfSamples(count=1).select(recorder.probe) == BENCH.sample(random.Random(3))
    assert recorder.asked == []


def test_equal_accuracies_keep_the_earlier():
    recorder = Recorder(DARTS, lambda mixture: 0.5)
    found = PerturbationSelection(tune_epochs=0).select(recorder.probe)
    for cell in found.cells.values():
        assert cell.nodes == ((Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1)),) * 3
    drawn = DARTS.sample(random.Random(0))
    assert BestOfSamples(count=5).select(Recorder(DARTS, lambda mixture: 0.5).probe) == drawn


def test_until_the_end_a_selection_shows_the_alphas_favourites():
    mixture = Softmax().expected(ArchParameters(DARTS))
    for selection in (PerturbationSelection(), BestOfSamples()):
        assert selection(mixture, DARTS) == ArgMax()(mixture, DARTS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BestOfSamples(count=0), "discretizer.count must be at least 1, got 0"),
        (lambda: PerturbationSelection(tune_epochs=-1), "tune_epochs must not be negative, got -1"),
        (lambda: PerturbationSelection(tune_lr=0.0), "tune_lr must be positive, got 0.0"),
    ],
)
def test_values_without_meaning_are_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()
