import math
import random

import pytest
import torch

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.search.diagnostics import (
    collapse_threshold,
    curvature_growth,
    entropy,
    has_collapsed,
    is_parameter_free,
    is_undecided,
    num_learnt,
    parameter_free_share,
    skip_share,
)
from darts_gdas.space import CellGenotype, CellSpace, Edge, Genotype, SearchSpace

DARTS = SearchSpace.named("darts")
BENCH = SearchSpace.named("nasbench201")


def test_entropy_is_one_when_undecided_and_zero_when_decided():
    assert entropy(torch.full((14, 8), 1 / 8)) == pytest.approx(1.0)
    assert entropy(torch.eye(8)[torch.randint(8, (14,))]) == 0.0


def test_entropy_of_a_coin_on_one_of_two_edges():
    probabilities = torch.tensor([[0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]).double()
    assert entropy(probabilities) == pytest.approx(math.log(2) / math.log(4) / 2)


def test_the_entropy_of_independent_sigmoids_is_that_of_their_shares():
    shares = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]).double()
    assert entropy(1.6 * shares) == pytest.approx(entropy(shares))
    assert entropy(torch.full((14, 8), 0.5)) == pytest.approx(1.0)
    assert entropy(torch.zeros(2, 3)) == 0.0


def test_skip_share_counts_edges_of_all_cells():
    """DARTS_V1: 2 + 1 skips in the normal cell, 1 + 1 + 1 in the reduction cell; 16 edges."""
    genotype = Genotype.load("DARTS_V1")
    text = genotype.to_json()
    assert skip_share(genotype) == text.count("skip_connect") / 16
    assert skip_share(Genotype.load("NASNet")) == 3 / 20


def test_what_learns_nothing_is_skip_pooling_and_none():
    names = {name for name in DARTS.cells["normal"].candidates[0] if is_parameter_free(name)}
    assert names == {"none", "skip_connect", "max_pool_3x3", "avg_pool_3x3"}
    assert not is_parameter_free("nor_conv_1x1")


def test_asking_draws_no_random_number():
    is_parameter_free.cache_clear()
    before = torch.get_rng_state()
    is_parameter_free("sep_conv_3x3")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_parameter_free_share_counts_edges_of_one_cell():
    """DARTS_V1: three skips in the normal cell; pooling and skips alone in the reduction cell."""
    cells = Genotype.load("DARTS_V1").cells
    assert parameter_free_share(cells["normal"]) == 3 / 8
    assert parameter_free_share(cells["reduce"]) == 1.0


def test_the_threshold_is_half_way_between_a_random_cell_and_all():
    """3 of 7 final candidates of DARTS learn nothing, 3 of 5 of NAS-Bench-201."""
    assert collapse_threshold(DARTS.cells["normal"]) == pytest.approx((1 + 3 / 7) / 2)
    assert collapse_threshold(BENCH.cells["normal"]) == pytest.approx((1 + 3 / 5) / 2)
    rng = random.Random(0)
    shares = [parameter_free_share(DARTS.cells["normal"].sample(rng)) for _ in range(2000)]
    # Eight edges of variance 12/49 each: 4 sigma of the mean of 2000 cells.
    mean, four_sigma = sum(shares) / len(shares), 4 * math.sqrt(12 / 49 / 8 / 2000)
    assert collapse_threshold(DARTS.cells["normal"]) == pytest.approx(
        (1 + mean) / 2, abs=four_sigma / 2
    )


@pytest.mark.parametrize(
    "name",
    ["DARTS_V1", "DARTS_V2", "GDAS_V1", "PC_DARTS_cifar", "PDARTS", "DrNAS_cifar10",
     "TENAS_cifar10"],
)  # fmt: skip
def test_no_published_cell_counts_as_collapsed(name: str):
    assert not has_collapsed(Genotype.load(name).cells["normal"], DARTS.cells["normal"])


def bench(*ops: str) -> CellGenotype:
    text = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*ops)
    return Genotype.from_arch_string(text).cells["normal"]


def test_the_known_collapse_counts_as_one():
    """All-skip: where DARTS ends on NAS-Bench-201 (54.30 % in place of 94.37 %)."""
    space = BENCH.cells["normal"]
    assert has_collapsed(bench(*["skip_connect"] * 6), space)
    assert not has_collapsed(bench(*["nor_conv_3x3"] * 6), space)


def test_convolutions_that_reach_nothing_do_not_count():
    """Five convolutions and `none` on the way out: five idle operations and one of weights."""
    conv, space = "nor_conv_3x3", BENCH.cells["normal"]
    cut = bench(conv, conv, conv, conv, "none", "none")
    assert parameter_free_share(cut) == 2 / 6 and has_collapsed(cut, space)
    assert has_collapsed(bench(conv, conv, conv, "none", "none", "none"), space)  # disconnected
    assert not has_collapsed(bench(conv, "none", "none", "none", conv, "none"), space)


def test_each_kind_is_judged_by_itself():
    cells = Genotype.load("DARTS_V1").cells
    told = {kind: has_collapsed(cells[kind], DARTS.cells[kind]) for kind in cells}
    assert told == {"normal": False, "reduce": True}


def test_a_skipped_block_of_a_chain_is_no_collapse():
    chain = SearchSpace.chain([["skip_connect", "mbconv3_3x3"]] * 2, reductions=[], widths=[1, 1])
    edge = CellGenotype(((Edge("skip_connect", 0),),), (1,), 1)
    assert num_learnt(edge) == 0 and collapse_threshold(chain.cells["block0"]) < 1
    assert not any(has_collapsed(edge, cell) for cell in chain.cells.values())
    two = SearchSpace.darts(num_nodes=1).cells["normal"]
    skips = tuple(Edge("skip_connect", source) for source in range(2))
    assert has_collapsed(CellGenotype((skips,), (2,), 2), two)


def told_undecided(*rows: list[float]) -> bool:
    """Of a cell with two inputs, one node and as many candidates as the rows have."""
    names = tuple(DARTS.cells["normal"].candidates[0][: len(rows[0])])
    space = SearchSpace({"normal": CellSpace((names,) * 2, num_nodes=1)})
    first, second = rows if len(rows) == 2 else rows * 2
    mixture = Mixture({"normal": CellMixture(torch.tensor([first, second]).double())})
    return is_undecided(mixture, space)


@pytest.mark.parametrize("n", range(2, 9))
def test_undecided_has_the_same_bounds_in_odds_for_any_number_of_candidates(n: int):
    """All others level, one candidate's alpha apart by a: the odds e^a cross 2 or 1/2."""
    for a in (0.69, -0.69, 0.7, -0.7):  # log 2 = 0.6931
        row = torch.tensor([a] + [0.0] * (n - 1)).double().softmax(-1)
        assert told_undecided(row.tolist()) == (abs(a) < math.log(2))
        if a == 0.69:
            assert row.max() == pytest.approx(2 / (n + 1), abs=2e-3)
        if a == -0.69:
            assert row.min() == pytest.approx(1 / (2 * n - 1), abs=2e-3)


@pytest.mark.parametrize("n", range(2, 9))
def test_an_undecided_edge_is_within_a_factor_of_two_of_a_random_draw(n: int):
    generator = torch.Generator().manual_seed(n)
    seen = set()
    for _ in range(200):
        row = (torch.randn(n, generator=generator).double() * 0.3).softmax(-1)
        undecided = told_undecided(row.tolist())
        seen.add(undecided)
        assert undecided == all(p < 2 * q for p in row for q in row)
        assert not undecided or (n * row.max() < 2 and n * row.min() > 0.5)
    assert seen == {True, False}


def test_alphas_of_many_candidates_that_moved_by_a_thousandth_are_undecided():
    generator = torch.Generator().manual_seed(0)
    moved = 1e-3 * torch.randn((14, 8), generator=generator).double()
    cells = {kind: CellMixture(moved.softmax(-1)) for kind in DARTS.cells}
    assert is_undecided(Mixture(cells), DARTS)


def test_one_edge_that_has_ruled_a_candidate_out_is_enough():
    level = [0.3] + [0.175] * 4
    assert told_undecided(level, level)
    assert not told_undecided(level, [0.5, 0.5, 0.0, 0.0, 0.0])
    assert not told_undecided([0.0] * 3)  # no row of weights says that nothing is ruled out
    assert not told_undecided([0.84, 0.16])


def test_growth_compares_the_last_window_with_the_one_before():
    assert curvature_growth([9.0, 1.0, 2.0, 3.0, 2.0, 4.0, 6.0], window=3) == pytest.approx(0.5)
    assert curvature_growth([-1.0, 2.0], window=1) == pytest.approx(0.5)  # magnitudes
    assert curvature_growth([1.0] * 9, window=5) == math.inf
    assert curvature_growth([1.0] * 10, window=5) == 1.0
    assert curvature_growth([0.0, 0.0], window=1) == math.inf


def test_steady_growth_crosses_the_papers_threshold_at_a_known_rate():
    """lambda_i = g^i: the ratio is g^-k. Below 0.75 within 5 epochs means g > 0.75^(-1/5)."""
    critical = 0.75 ** (-1 / 5)
    for growth in (critical * 0.999, critical * 1.001):
        ratio = curvature_growth([growth**i for i in range(10)], window=5)
        assert ratio == pytest.approx(growth**-5)
        assert (ratio < 0.75) == (growth > critical)
