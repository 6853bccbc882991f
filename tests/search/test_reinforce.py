"""REINFORCE: the policy's distribution, and its gradient by enumeration of a small space."""

import itertools
import math
import random
from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.search import Reinforce
from darts_gdas.search.one_hot import one_hot
from darts_gdas.search.reinforce import CellPolicy
from darts_gdas.space import CellGenotype, CellSpace, Edge, Genotype, SearchSpace
from tests.search.test_selection import BENCH, DARTS, Recorder, sum_of, values_of

# Two of three edges at the second node; other candidates on each edge, one of them with `none`.
CELL = CellSpace(
    (("skip_connect", "max_pool_3x3"), ("none", "skip_connect"), ("max_pool_3x3",),
     ("skip_connect", "max_pool_3x3"), ("skip_connect", "avg_pool_3x3", "none")),
    num_nodes=2,
)  # fmt: skip
SPACE = SearchSpace({"normal": CELL})


def all_cells() -> list[Genotype]:
    nodes = []
    for node in range(2):
        options = []
        for kept in itertools.combinations(CELL.edges_into(node), 2):
            for ops in itertools.product(*map(CELL.derivable, kept)):
                pairs = zip(ops, kept, strict=True)
                options.append(tuple(Edge(op, CELL.edges[edge][1]) for op, edge in pairs))
        nodes.append(options)
    return [
        Genotype({"normal": CellGenotype(both, CELL.output, 2)})
        for both in itertools.product(*nodes)
    ]


def policy(space: SearchSpace = SPACE) -> CellPolicy:
    found = CellPolicy(space)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for logits in found.parameters():
            logits.copy_(torch.randn(logits.shape, generator=generator, dtype=torch.float64))
    return found


def test_probabilities_sum_to_one_over_all_cells():
    cells = all_cells()
    assert len(cells) == CELL.num_cells
    assert_close(sum(policy().log_probability(c).exp() for c in cells), torch.tensor(1.0).double())


def test_at_zero_it_is_the_spaces_uniform_distribution():
    for space in (DARTS, BENCH):
        cell = space.sample(random.Random(0))
        expected = -sum(math.log(c.num_cells) for c in space.cells.values())
        assert CellPolicy(space).log_probability(cell).item() == pytest.approx(expected)


def test_samples_have_the_probabilities_that_it_says():
    asked, rng, count = policy(), random.Random(0), 8_000
    seen = Counter(asked.sample(rng) for _ in range(count))
    for cell in all_cells():
        p = asked.log_probability(cell).exp().item()
        assert abs(seen[cell] / count - p) < 4.5 * math.sqrt(p * (1 - p) / count) + 1e-12


def gradients(asked: CellPolicy, loss: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(asked.parameters()), allow_unused=True)
    pairs = zip(found, asked.parameters(), strict=True)
    return [torch.zeros_like(p) if g is None else g for g, p in pairs]


@pytest.mark.parametrize("baseline", [0.0, 17.0])
def test_the_estimators_mean_is_the_gradient_of_the_mean_worth(baseline: float):
    """Exact, by enumeration: any baseline that does not know the cell leaves the mean as it is."""
    asked, cells = policy(), all_cells()
    worth = [float(i % 7) for i in range(len(cells))]
    logs = torch.stack([asked.log_probability(cell) for cell in cells])
    expected = gradients(asked, (logs.exp() * torch.tensor(worth).double()).sum())
    mean = [torch.zeros_like(p) for p in asked.parameters()]
    for cell, value in zip(cells, worth, strict=True):
        log = asked.log_probability(cell)
        terms = gradients(asked, (value - baseline) * log)
        mean = [m + log.exp().detach() * t for m, t in zip(mean, terms, strict=True)]
    for got, want in zip(mean, expected, strict=True):
        assert_close(got, want)


def test_the_score_of_an_edge_is_one_hot_minus_softmax():
    asked = policy(BENCH)
    cell = BENCH.sample(random.Random(1))
    (score, _) = gradients(asked, asked.log_probability(cell))
    softmax = asked.ops["normal"].softmax(-1)
    assert_close(score, one_hot(cell, BENCH)["normal"].ops.double() - softmax.detach())


def test_the_first_cell_sets_the_baseline_and_equal_worth_moves_nothing():
    """All cells worth the same: no advantage, so the policy stays uniform, and draws so."""
    recorder = Recorder(BENCH, lambda mixture: 0.5, seed=2)
    Reinforce(count=40, lr=1.0).select(recorder.probe)
    rng, uniform = random.Random(2), CellPolicy(BENCH)
    drawn = dict.fromkeys(uniform.sample(rng) for _ in range(40))
    expected = [one_hot(cell, BENCH)["normal"].active for cell in drawn]
    assert [mixture["normal"].active for mixture in recorder.asked] == expected


def test_two_steps_are_adams_on_the_advantages_by_hand():
    """The third sample depends on the second's advantage over the first; a rate of 50 decides."""
    score = sum_of(values_of(BENCH, 0))
    recorder = Recorder(BENCH, score, seed=3)
    Reinforce(count=3, lr=50.0).select(recorder.probe)
    rng, uniform = random.Random(3), CellPolicy(BENCH)
    first, second = uniform.sample(rng), uniform.sample(rng)
    advantage = score(one_hot(second, BENCH)) - score(one_hot(first, BENCH))
    (gradient, _) = gradients(uniform, advantage * uniform.log_probability(second))
    with torch.no_grad():
        uniform.ops["normal"] += 50.0 * gradient.sign()  # Adam's first step
    third = one_hot(uniform.sample(rng), BENCH)["normal"].active
    assert recorder.asked[2]["normal"].active == third


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"lr": 0.0}, "discretizer.lr must be positive, got 0.0"),
     ({"momentum": 1.0}, r"discretizer.momentum must lie in \[0, 1\), got 1.0")],
)  # fmt: skip
def test_values_without_meaning_are_refused(settings: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        Reinforce(**settings)
