"""Ranks and rank correlations: by counting pairs, by hand, and the coverage of intervals."""

import math
from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from darts_gdas.scoring import Correlation, kendall_tau, rank_sum, ranks, spearman
from darts_gdas.scoring.correlation import NothingTold, left_out, telling

INF, NAN = math.inf, math.nan
FUNCTIONS = [kendall_tau, spearman]


def noisy(count: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two scores of different quality and their reference."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=count)
    good, bad = (reference + factor * noise * rng.normal(size=count) for factor in (1, 3))
    return good, bad, reference


def count_pairs(a: np.ndarray, b: np.ndarray) -> float:
    """Tau-b by its definition."""
    signs = [
        (np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i, j in combinations(range(len(a)), 2)
    ]
    agreement = sum(x * y for x, y in signs)
    return agreement / math.sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))


def test_ranks_count_the_lower_and_half_of_the_equal():
    values = np.random.default_rng(0).integers(0, 6, size=40).astype(float)
    expected = [(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values]
    assert ranks(values).tolist() == expected


def test_broken_networks_share_the_last_ranks():
    assert ranks([NAN, 1.0, -INF, INF, NAN]).tolist() == [2.0, 4.0, 2.0, 5.0, 2.0]
    assert ranks([]).tolist() == [] and ranks([NAN, NAN]).tolist() == [1.5, 1.5]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_infinities_are_the_ends_of_an_order(function):
    scores, reference = [INF, 0.5, -INF, 2.0, 1.0], [4.0, 1.0, 0.0, 3.0, 7.0]
    finite = function([9.0, 0.5, -9.0, 2.0, 1.0], reference)
    assert function(scores, reference).value == finite.value


def test_rank_sums_ignore_units_and_outliers():
    a, b, _ = noisy(30, 1.0)
    expected = ranks(a) + ranks(b)
    assert_allclose(rank_sum([a, b]), expected)
    assert_allclose(rank_sum([np.exp(5 * a), 1e6 * b - 3]), expected)


def test_a_rank_sum_of_one_score_and_itself_keeps_its_order():
    a, _, _ = noisy(30, 1.0)
    assert (np.argsort(rank_sum([a, a, a])) == np.argsort(a)).all()


@pytest.mark.parametrize(
    ("silent", "said"),
    [
        ([2.0, 2.0, 2.0], "2"),
        ([-INF, -INF, -INF], "-inf"),
        ([NAN, NAN, NAN], "nan"),
        ([-INF, NAN, -INF], "-inf or nan"),
        ([INF, -INF, INF], "-inf or inf"),
    ],
)
def test_a_score_that_says_nothing_is_named_and_left_out(
    silent: list[float], said: str, caplog: pytest.LogCaptureFixture
):
    loud = {"first": [1.0, -INF, 1.0], "last": [NAN, 0.5, 0.0]}
    assert telling(loud, "cells") == loud and not caplog.records
    assert telling({"first": loud["first"], "quiet": silent, "last": loud["last"]}, "cells") == loud
    (record,) = caplog.records
    assert record.getMessage() == (
        f"quiet is {said} for each of the cells; this score is left out of the ranks"
        + " (where kernels are singular: wider networks, or fewer images in a batch)"
        * (said == "-inf")
    )
    assert left_out({"quiet": silent, **loud}, "cells") == [record.getMessage()]


def test_without_a_score_that_tells_there_is_no_order():
    with pytest.raises(NothingTold, match=r"no score tells the cells apart: a is 1 .*; b is -inf "):
        telling({"a": [1.0, 1.0], "b": [-INF, -INF]}, "cells")
    with pytest.raises(NothingTold):
        telling({}, "cells")


def test_a_single_item_has_nothing_to_be_told_from(caplog: pytest.LogCaptureFixture):
    assert telling({"a": [-INF]}, "cells") == {"a": [-INF]} and not caplog.records


@pytest.mark.parametrize("ties", [False, True])
def test_tau_counts_pairs(ties: bool):
    a, _, b = noisy(25, 1.0)
    if ties:
        a, b = np.round(a), np.round(b)
    assert kendall_tau(a, b, num_resamples=1).value == pytest.approx(count_pairs(a, b), rel=1e-12)


def test_rho_is_the_linear_correlation_of_ranks():
    a, _, b = noisy(25, 1.0)
    a = np.round(a)
    expected = np.corrcoef(ranks(a), ranks(b))[0, 1]
    assert spearman(a, b, num_resamples=1).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_perfect_order_is_certain(function, sign: float):
    """Also where an item is -inf, as log(0) is."""
    a = np.array([-INF, 0.0, 1.0, 5.0, 70.0])
    found = function(a, sign * np.arange(5.0), num_resamples=200)
    assert (found.value, found.low, found.high) == pytest.approx((sign, sign, sign))
    assert found.count == 5


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_interval_covers_the_truth_about_19_times_in_20(function):
    """60 independent experiments; the truth from 4000 items. Below 50 hits is 4 sigma off."""
    good, _, reference = noisy(4000, 1.0, seed=999)
    truth, hits = function(good, reference, num_resamples=1).value, 0
    for seed in range(60):
        good, _, reference = noisy(40, 1.0, seed=seed)
        found = function(good, reference, num_resamples=100, seed=seed)
        assert found.low < found.value < found.high
        hits += found.low <= truth <= found.high
    assert hits >= 50


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_paired_difference_is_narrower_than_its_parts(function):
    good, bad, reference = noisy(100, 0.5)
    close = good + 0.05 * bad
    first, second = (function(s, reference, num_resamples=200) for s in (good, close))
    found = function(good, reference, rival=close, num_resamples=200)
    assert found.value == pytest.approx(first.value - second.value, abs=1e-12)
    assert found.high - found.low < 0.6 * (first.high - first.low)
    better = function(good, reference, rival=bad, num_resamples=200)
    assert better.low > 0 > function(bad, reference, rival=good, num_resamples=200).high


def test_a_score_does_not_differ_from_itself():
    good, _, reference = noisy(30, 1.0)
    found = kendall_tau(good, reference, rival=good, num_resamples=50)
    assert found == Correlation(0.0, 0.0, 0.0, 30)


def test_the_seed_decides_the_interval():
    good, _, reference = noisy(30, 1.0)
    one, same, other = (kendall_tau(good, reference, num_resamples=50, seed=s) for s in (1, 1, 2))
    assert one == same and one.value == other.value and one.low != other.low


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("count", [9, 10])
def test_the_top_half_is_the_better_one_by_the_reference(function, count: int):
    good, _, reference = noisy(count, 1.0)
    kept = np.argsort(reference)[-5:]
    found = function(good, reference, top_half=True, num_resamples=20)
    assert found == function(good[np.sort(kept)], reference[np.sort(kept)], num_resamples=20)


def test_the_top_half_keeps_all_that_equal_its_last():
    reference = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0])
    assert kendall_tau(np.arange(8.0), reference, top_half=True, num_resamples=5).count == 6


def test_few_items_have_an_interval_of_the_resamples_that_have_an_order():
    found = kendall_tau([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], num_resamples=200)
    assert found.value == pytest.approx(1 / 3) and -1 <= found.low <= found.high <= 1


def test_a_correlation_is_shown_with_its_interval():
    assert str(Correlation(0.53512, 0.48, 0.5917, 320)) == "0.535 [0.480, 0.592] of 320"


@pytest.mark.parametrize(
    ("scores", "reference", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], "needs at least 3 items, got 2$"),
        ([], [], "needs at least 3 items, got 0$"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], "lengths differ: {'scores': 3, 'reference': 2}"),
        ([1.0, NAN, NAN], [1.0, 2.0, 3.0], r"scores has 2 NaN of 3; drop .* ranks\(scores\)"),
        ([1.0, 2.0, 3.0], [NAN, 2.0, 3.0], "reference has 1 NaN of 3"),
        ([4.0, 4.0, 4.0], [1.0, 2.0, 3.0], "scores has the same value 4 for all 3 items"),
        ([-INF] * 3, [1.0, 2.0, 3.0], "scores has the same value -inf for all 3 items"),
        ([1.0, 2.0, 3.0], [0.0] * 3, "reference has the same value 0 for all 3 items"),
        (
            np.ones((3, 1)),
            [1.0, 2.0, 3.0],
            r"scores must be one number per item, got shape \(3, 1\)",
        ),
    ],
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_has_no_correlation_is_refused(function, scores, reference, message: str):
    with pytest.raises(ValueError, match=message):
        function(scores, reference)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_difference_names_the_score_at_fault(function):
    good, reference = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]
    with pytest.raises(ValueError, match="rival has 1 NaN of 3"):
        function(good, reference, rival=[1.0, NAN, 2.0])
    with pytest.raises(ValueError, match="scores has the same value 1 for all 3"):
        function([1.0, 1.0, 1.0], reference, rival=good)


def test_other_misuse_is_refused():
    with pytest.raises(ValueError, match="at least 3 items, got 2 in the top half"):
        kendall_tau([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], top_half=True)
    with pytest.raises(ValueError, match="num_resamples must be positive, got 0"):
        spearman([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], num_resamples=0)
    with pytest.raises(ValueError, match=r"one common length, got \[2, 3\]"):
        rank_sum([[1.0, 2.0], [1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match=r"one common length, got \[\]"):
        rank_sum([])
    with pytest.raises(ValueError, match=r"values must be one number per item, got shape \(2, 2\)"):
        ranks(np.ones((2, 2)))
