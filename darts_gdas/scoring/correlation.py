"""Ranks of scores, and how well they agree with known accuracies."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy
from jaxtyping import Float64

Values = Sequence[float | int] | np.ndarray
Vector = Float64[np.ndarray, " items"]
_Statistic = Callable[[Vector, Vector], float]

CONFIDENCE = 0.95

logger = logging.getLogger(__name__)


class NothingTold(ValueError):
    """No score tells one item from another, so there is no order."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """A rank correlation, or a difference of two, with its 95 % bootstrap interval.

    Attributes:
        value: Over all items; a correlation lies in [-1, 1].
        low: Lower end of the interval, a percentile over resampled items.
        high: Upper end.
        count: Number of items.
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.count}"


def ranks(values: Values) -> Vector:
    """Ranks from 1 (the lowest value) to the number of items (the highest); equals share theirs.

    Higher stays better, so ranks add up to a score. NaN and -inf, with which a score says that a
    network is broken, share the lowest ranks.

    Example:
        >>> ranks([0.5, 2.0, float("nan"), 0.5, -float("inf")]).tolist()
        [3.5, 5.0, 1.5, 3.5, 1.5]
    """
    numbers = _vector("values", values)
    places = _finite(numbers).astype(np.int64)
    counts = np.bincount(places)  # scipy.stats, which ranks as well, takes seconds to be imported
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _finite(numbers: Vector) -> Vector:
    """Whole numbers in the same order, NaN lowest: old versions of scipy take inf - inf for NaN."""
    distinct = np.where(np.isnan(numbers), -np.inf, numbers)
    return np.unique(distinct, return_inverse=True)[1].astype(np.float64)


def rank_sum(columns: Sequence[Values]) -> Vector:
    """Several scores of the same items made one, by adding their ranks; higher is better.

    Neither their units nor outliers matter, and every score weighs the same (a Borda count).

    Args:
        columns: One sequence per score, all of the same items in the same order.

    Raises:
        ValueError: If there are no columns or their lengths differ.

    Example:
        >>> rank_sum([[0.1, 0.9, 0.5], [30.0, 20.0, 10.0]]).tolist()
        [4.0, 5.0, 3.0]

    Reference:
        Chen et al. (TE-NAS), ICLR 2021, https://arxiv.org/abs/2102.11535, section 3.3.
    """
    ranked = [ranks(column) for column in columns]
    lengths = [len(column) for column in ranked]
    if len(set(lengths)) != 1:
        raise ValueError(
            f"columns must have one common length, got {lengths}; pass one score per item in each"
        )
    return np.sum(ranked, axis=0)


class Ranking(NamedTuple):
    """Scores that tell items apart, the sum of their ranks per item, and warnings of the others."""

    ranked_by: tuple[str, ...]
    total: list[float]
    left_out: tuple[str, ...]


def ranking(columns: Mapping[str, Values], items: str) -> Ranking:
    """The rank sum, larger is better, of scores that are `telling`; arguments, errors as there."""
    told = telling(columns, items)
    return Ranking(
        tuple(told), rank_sum([*told.values()]).tolist(), tuple(left_out(columns, items))
    )


def telling(columns: Mapping[str, Values], items: str) -> dict[str, Values]:
    """The scores that tell their items apart; the others are named in a warning.

    One that is the same for all items, or finite for none, would count as if it had been asked:
    the ranking would go on by the rest, without a word.

    Args:
        columns: By their names, each with one value per item. A single item is told apart from
            nothing, and keeps all of them.
        items: What the items are, for the words.

    Raises:
        NothingTold: If no score is left.

    Example:
        >>> list(telling({"first": [1.0, 2.0, 2.0], "second": [0.5, 1.0, 0.7]}, "cells"))
        ['first', 'second']
    """
    silent = _silent(columns)
    if len(silent) == len(columns):
        raise NothingTold(
            f"no score tells the {items} apart: {'; '.join(silent.values())}. Where kernels are "
            "singular for all, look for equal or constant pictures; else take other scores"
        )
    for said in left_out(columns, items):
        logger.warning(said)
    return {name: column for name, column in columns.items() if name not in silent}


def left_out(columns: Mapping[str, Values], items: str) -> list[str]:
    """What `telling` warns of, a sentence for each score that is left out."""
    return [
        f"{said} of the {items}; this score is left out of the ranks"
        + _SINGULAR * (f"{name} is -inf for each" == said)
        for name, said in _silent(columns).items()
    ]


def _silent(columns: Mapping[str, Values]) -> dict[str, str]:
    return {name: said for name, column in columns.items() if (said := _nothing(name, column))}


_SINGULAR = " (where kernels are singular: wider networks, or fewer images in a batch)"


def _nothing(name: str, column: Values) -> str | None:
    """In words that a column says nothing, if that is so."""
    numbers = _vector(name, column)
    if len(numbers) < 2:
        return None
    shown = np.unique(np.where(np.isnan(numbers), -np.inf, numbers))
    if len(shown) > 1 and np.isfinite(shown).any():
        return None
    values = " or ".join(f"{value + 0:g}" for value in np.unique(numbers))
    return f"{name} is {values} for each"


def kendall_tau(
    scores: Values,
    reference: Values,
    *,
    rival: Values | None = None,
    top_half: bool = False,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Correlation:
    """Kendall's tau-b: share of pairs in the right order less that of pairs in the wrong one.

    Ties are corrected for. -inf is a low score like others.

    Args:
        scores: One score per item.
        reference: What the scores should rank, such as accuracies.
        rival: Another score of the same items: the result is by how much tau exceeds its tau. Both
            see the same resampled items, and most of the sampling noise is common to both, so this
            interval is much narrower than those of the two correlations suggest. One above 0
            means that the first score ranks better.
        top_half: Look only at the better half by `reference` (and all that equal its last):
            telling good networks from the best is harder than from broken ones.
        num_resamples: How often the bootstrap draws; the interval's ends are uncertain by a few per
            cent of its width at 1000.
        seed: The bootstrap draws by it.

    Raises:
        ValueError: If lengths differ, fewer than 3 items are left, all scores or references are
            equal, or one is NaN.

    Example:
        >>> kendall_tau([1.0, 2.0, 3.0, 4.0], [0.1, 0.3, 0.2, 0.4]).value  # 5 of 6 pairs right
        0.666...
    """
    return _correlate(_tau, scores, rival, reference, top_half, num_resamples, seed)


def spearman(
    scores: Values,
    reference: Values,
    *,
    rival: Values | None = None,
    top_half: bool = False,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Correlation:
    """Spearman's rho: the linear correlation of ranks. Arguments as for `kendall_tau`.

    Raises:
        ValueError: As `kendall_tau`.
    """
    return _correlate(_rho, scores, rival, reference, top_half, num_resamples, seed)


def _tau(a: Vector, b: Vector) -> float:
    result: Any = scipy.stats.kendalltau(_finite(a), _finite(b))  # scipy's types name no attributes
    return float(result.statistic)


def _rho(a: Vector, b: Vector) -> float:
    result: Any = scipy.stats.spearmanr(_finite(a), _finite(b))
    return float(result.statistic)


def _correlate(
    statistic: _Statistic,
    scores: Values,
    rival: Values | None,
    reference: Values,
    top_half: bool,
    num_resamples: int,
    seed: int,
) -> Correlation:
    """The statistic of one score, or of the first less that of the second, with its interval."""
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be positive, got {num_resamples}; 1000 is usual")
    named = {"scores": scores} if rival is None else {"scores": scores, "rival": rival}
    table = _table({**named, "reference": reference}, top_half)
    count = table.shape[1]

    def value(items: np.ndarray) -> float:
        chosen = table[:, items]
        if any((row == row[0]).all() for row in chosen):
            return np.nan  # a resample may repeat one item only
        each = [statistic(row, chosen[-1]) for row in chosen[:-1]]
        return each[0] if len(each) == 1 else each[0] - each[1]

    rng = np.random.default_rng(seed)
    resampled = [value(rng.integers(count, size=count)) for _ in range(num_resamples)]
    tails = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
    defined = [number for number in resampled if not np.isnan(number)]
    low, high = np.percentile(defined, tails).tolist() if defined else (np.nan, np.nan)
    return Correlation(value(np.arange(count)), low, high, count)


def _table(columns: Mapping[str, Values], top_half: bool) -> Float64[np.ndarray, "rows items"]:
    """The scores and the reference below them, checked; of the top half if asked."""
    vectors = {name: _vector(name, values) for name, values in columns.items()}
    lengths = {name: len(vector) for name, vector in vectors.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"lengths differ: {lengths}; pass one number per item in each")
    for name, vector in vectors.items():
        if missing := int(np.isnan(vector).sum()):
            raise ValueError(
                f"{name} has {missing} NaN of {len(vector)}; drop those items, or pass "
                f"ranks({name}), which puts NaN last"
            )
    table = np.stack(list(vectors.values()))
    if top_half and table.size:
        last = np.sort(table[-1])[::-1][(table.shape[1] - 1) // 2]
        table = table[:, table[-1] >= last]
    if table.shape[1] < 3:
        raise ValueError(
            f"a rank correlation needs at least 3 items, got {table.shape[1]}"
            + (" in the top half" if top_half else "")
        )
    for name, row in zip(vectors, table, strict=True):
        if (row == row[0]).all():
            raise ValueError(
                f"{name} has the same value {row[0]:g} for all {len(row)} items, so there is no "
                "order to compare"
            )
    return table


def _vector(name: str, values: Values) -> Vector:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} must be one number per item, got shape {vector.shape}")
    return vector
