"""Cells drawn from the alphas: the law of the draws, and which of them is taken."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.scoring.draws import BestOfDraws, draw, log_likelihood
from darts_gdas.search import ArgMax
from darts_gdas.search.one_hot import one_hot
from darts_gdas.search.selection import TrainedSupernet
from darts_gdas.space import CellSpace, Genotype, SearchSpace

BENCH = SearchSpace.named("nasbench201")
COUNT = 4000
TOLERANCE = 4 * 0.5 / math.sqrt(COUNT)
"""Four standard deviations of a frequency, at most."""


def mixture_of(space: SearchSpace, seed: int = 0) -> Mixture:
    generator = torch.Generator().manual_seed(seed)
    shape = {kind: (len(c.edges), c.num_candidates) for kind, c in space.cells.items()}
    return Mixture(
        {
            kind: CellMixture(torch.randn(size, generator=generator).double().softmax(-1))
            for kind, size in shape.items()
        }
    )


def trained_on(
    space: SearchSpace,
    scores: Callable[[Genotype, Sequence[str], int], dict[str, float]],
    allows: Callable[[Genotype], bool] = lambda genotype: True,
    accuracy: Callable[[Mixture], float] = lambda mixture: 0.0,
    likeliest: Genotype | None = None,
) -> TrainedSupernet:
    def never(mixture: Mixture, *, lr: float, epoch: int, num_epochs: int) -> None:
        raise AssertionError("nothing is tuned")

    return TrainedSupernet(
        space, mixture_of(space), accuracy, never, random.Random(0), lambda done, total: None,
        scores, allows, lambda: likeliest or ArgMax()(mixture_of(space), space),
    )  # fmt: skip


def constant(genotype: Genotype, names: Sequence[str], repeat: int) -> dict[str, float]:
    return dict.fromkeys(names, 1.0)


def test_each_edge_draws_its_operation_by_its_weight():
    mixture, rng = mixture_of(BENCH), random.Random(1)
    counts = sum(one_hot(draw(mixture, BENCH, rng), BENCH)["normal"].ops for _ in range(COUNT))
    assert isinstance(counts, torch.Tensor)
    assert ((counts / COUNT - mixture["normal"].ops).abs() < TOLERANCE).all()


def test_a_temperature_takes_a_power_of_the_weights():
    mixture, rng = mixture_of(BENCH), random.Random(1)
    root = mixture["normal"].ops.sqrt()
    counts = sum(one_hot(draw(mixture, BENCH, rng, 2.0), BENCH)["normal"].ops for _ in range(COUNT))
    assert isinstance(counts, torch.Tensor)
    assert ((counts / COUNT - root / root.sum(-1, keepdim=True)).abs() < TOLERANCE).all()


def test_a_node_draws_its_edges_without_replacement_by_what_can_be_final():
    """P({i, j}) = p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j), p without the weight of `none`."""
    names = ("none", "skip_connect", "sep_conv_3x3")
    cell = CellSpace((names,) * 5, num_nodes=2, keep=2)
    space = SearchSpace({"normal": cell})
    mixture, rng = mixture_of(space, 3), random.Random(2)
    rows = list(cell.edges_into(1))
    strength = mixture["normal"].ops[rows, 1:].sum(-1)
    p = (strength / strength.sum()).tolist()
    found = Counter(
        tuple(edge.source for edge in draw(mixture, space, rng).cells["normal"].nodes[1])
        for _ in range(COUNT)
    )
    for i, j in itertools.combinations(range(3), 2):
        chance = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        assert abs(found[i, j] / COUNT - chance) < TOLERANCE


def test_the_likelihood_is_the_product_of_the_weights():
    mixture = mixture_of(BENCH)
    genotype = draw(mixture, BENCH, random.Random(0))
    names = BENCH.cells["normal"].candidates[0]
    factors = [
        mixture["normal"].ops[BENCH.cells["normal"].edges.index((node, edge.source)),
                              names.index(edge.op)].item()
        for node, edges in enumerate(genotype.cells["normal"].nodes) for edge in edges
    ]  # fmt: skip
    assert len(factors) == 6
    chosen = one_hot(genotype, BENCH)
    assert log_likelihood(chosen, mixture) == pytest.approx(math.log(math.prod(factors)))
    impossible = Mixture({"normal": CellMixture(1 - chosen["normal"].ops)})
    assert log_likelihood(chosen, impossible) == -math.inf


SMALL = SearchSpace({"normal": CellSpace((("skip_connect", "sep_conv_3x3"),) * 2, num_nodes=1)})
"""Four cells: two edges of two operations."""


def test_of_a_small_space_all_cells_are_compared_and_the_best_is_taken():
    """By the scores alone the answer is the cell with the largest one, whatever the alphas say."""
    for favourite in itertools.product(("skip_connect", "sep_conv_3x3"), repeat=2):
        seen = set()

        def scores(
            genotype: Genotype, names: Sequence[str], repeat: int, favourite=favourite, seen=seen
        ) -> dict[str, float]:
            seen.add(genotype)
            ops = tuple(edge.op for edge in genotype.cells["normal"].nodes[0])
            return {name: float(ops == favourite) for name in names}

        selection = BestOfDraws(10, ["naswot"], by_alphas=False)
        found = selection.select(trained_on(SMALL, scores))
        assert len(seen) == 4
        assert tuple(edge.op for edge in found.cells["normal"].nodes[0]) == favourite


def test_equal_scores_leave_the_choice_to_the_alphas():
    trained = trained_on(SMALL, constant)
    found = BestOfDraws(4, ["naswot"]).select(trained)
    best = max(
        (draw(trained.mixture, SMALL, random.Random(i), 8.0) for i in range(100)),
        key=lambda genotype: log_likelihood(one_hot(genotype, SMALL), trained.mixture),
    )
    assert found == best


def test_repeats_are_averaged():
    """One lucky repeat is not enough: 3 + 0 is less than 2 + 2."""

    def scores(genotype: Genotype, names: Sequence[str], repeat: int) -> dict[str, float]:
        lucky = genotype.cells["normal"].nodes[0][0].op == "skip_connect"
        return dict.fromkeys(names, (3.0 if repeat == 0 else 0.0) if lucky else 2.0)

    trained = trained_on(SMALL, scores)
    once = BestOfDraws(4, ["naswot"], by_alphas=False).select(trained)
    twice = BestOfDraws(4, ["naswot"], repeats=2, by_alphas=False).select(trained)
    assert once.cells["normal"].nodes[0][0].op == "skip_connect"
    assert twice.cells["normal"].nodes[0][0].op == "sep_conv_3x3"


def test_shared_weights_count_where_asked():
    def accuracy(mixture: Mixture) -> float:
        return mixture["normal"].ops[0, 0].item()  # skip_connect on the first edge

    trained = trained_on(SMALL, constant, accuracy=accuracy)
    found = BestOfDraws(4, ["naswot"], by_alphas=False, by_weights=True).select(trained)
    assert found.cells["normal"].nodes[0][0].op == "skip_connect"


def test_only_what_is_allowed_is_scored():
    def allows(genotype: Genotype) -> bool:
        return "nor_conv_3x3" not in genotype.operations

    asked: list[Genotype] = []

    def scores(genotype: Genotype, names: Sequence[str], repeat: int) -> dict[str, float]:
        asked.append(genotype)
        return dict.fromkeys(names, float(len(asked)))

    found = BestOfDraws(30, ["naswot"], by_alphas=False).select(trained_on(BENCH, scores, allows))
    assert len(set(asked)) == len(asked) == 30
    assert all(map(allows, asked))
    assert found == asked[-1]


def test_where_no_draw_is_allowed_the_most_probable_cell_that_is_answers(
    caplog: pytest.LogCaptureFixture,
):
    """One cell of 15,625 is allowed, and 200 draws miss it."""
    rare = draw(mixture_of(BENCH, 1), BENCH, random.Random(5))
    trained = trained_on(BENCH, constant, lambda genotype: genotype == rare, likeliest=rare)
    assert BestOfDraws(1, ["naswot"]).select(trained) == rare
    assert caplog.messages == [
        "none of 200 cells drawn is one that penalties allow; the answer is the most probable one "
        "that they do"
    ]


def test_no_allowed_cell_at_all_is_an_error():
    trained = trained_on(SMALL, constant, lambda genotype: False)
    told = (
        "none of 400 cells drawn is one that penalties allow, nor is the most probable cell; "
        "loosen what they limit"
    )
    with pytest.raises(ValueError, match=f"^{told}$"):
        BestOfDraws(2, ["naswot"]).select(trained)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "discretizer.count must be at least 1, got 0"),
        ({"repeats": 0}, "discretizer.repeats must be at least 1, got 0"),
        ({"scores": ["parms"]}, "discretizer.scores must be distinct names"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        BestOfDraws(**settings)
