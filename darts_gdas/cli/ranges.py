"""The ranges of a study's settings: as they are typed, in words, and as Optuna takes them."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep, Sweep
from hydra.errors import HydraException

from darts_gdas.runtime.launch import setting

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution  # pyright: ignore[reportMissingImports]

CALLS = {
    "choice": "choice(a,b)",
    "range": "range(first,end)",
    "interval": "interval(low,high)",
    "tag": "tag(log, interval(low,high))",
}
"""How ranges are typed, by the word that they begin with."""


def distribution_of(override: Override) -> "BaseDistribution":
    """The values of a setting that varies.

    Raises:
        ValueError: If it is no range that a study can take; it names the setting.
    """
    try:
        return _of_interval(override) or _of_items(override)
    except (ValueError, HydraException) as error:  # Optuna's words and hydra's
        raise ValueError(f"{override.input_line}: {error}") from None


def _of_interval(override: Override) -> "BaseDistribution | None":
    from optuna import distributions  # pyright: ignore[reportMissingImports]

    value = override.value()
    if not isinstance(value, IntervalSweep):
        return None
    low, high, is_log = value.start, value.end, _is_log(value)
    assert low is not None and high is not None
    if isinstance(low, int) and isinstance(high, int):
        return distributions.IntDistribution(low, high, log=is_log)
    return distributions.FloatDistribution(low, high, log=is_log)


def _of_items(override: Override) -> "BaseDistribution":
    from optuna import distributions  # pyright: ignore[reportMissingImports]

    value = override.value()
    if isinstance(value, Glob):
        raise ValueError(f"a study takes names themselves, as {CALLS['choice']}, not a pattern")
    assert isinstance(value, Sweep)
    is_log = _is_log(value)
    if isinstance(value, RangeSweep) and isinstance(numbers := value.range(), range):
        if not numbers:
            raise ValueError("there is no such value")
        low, high = sorted((numbers[0], numbers[-1]))  # it may count down
        step = abs(numbers.step)
        if is_log and step > 1:
            raise ValueError(f"with the tag log a range has steps of 1, got {step}")
        return distributions.IntDistribution(low, high, log=is_log, step=step)
    if is_log:
        raise ValueError("the tag log is for interval(low,high), and for range of whole numbers")
    if "${" in str(override.input_line):
        raise ValueError("a value that varies cannot refer to another setting")
    items = list(dict.fromkeys(map(_bare, override.sweep_string_iterator())))
    if not items:
        raise ValueError("there is no such value")
    return distributions.CategoricalDistribution(items)


def _is_log(value: Sweep) -> bool:
    if unknown := sorted(value.tags - {"log"}):
        raise ValueError(f"the tag of a range must be log, got {unknown[0]}")
    return "log" in value.tags


def _bare(text: str) -> str:
    """A choice without its quotes, where it means the same without."""
    inner = text[1:-1]
    if text[:1] not in ("'", '"') or "\\" in inner:
        return text
    with contextlib.suppress(ValueError):
        return inner if inner in (str(int(inner)), str(float(inner))) else text
    return inner if setting("", inner)[1:] == inner else text


def as_typed(distribution: Any) -> str:
    """A range in hydra's words; those that hold the same values alike read the same.

    Args:
        distribution: One of `distribution_of`.
    """
    from optuna import distributions  # pyright: ignore[reportMissingImports]

    if isinstance(distribution, distributions.CategoricalDistribution):
        return f"choice({','.join(map(str, distribution.choices))})"
    low, high = distribution.low, distribution.high
    if isinstance(distribution, distributions.IntDistribution):
        step = f",{distribution.step}" if distribution.step > 1 else ""
        typed = f"range({low},{high + 1}{step})"
    else:
        typed = f"interval({low},{high})"
    return f"tag(log,{typed})" if distribution.log else typed


def in_words(distribution: Any) -> str:
    """A range for readers of a page."""
    from optuna import distributions  # pyright: ignore[reportMissingImports]

    if isinstance(distribution, distributions.CategoricalDistribution):
        return "one of " + ", ".join(map(str, distribution.choices))
    even = ", even over orders of magnitude" if distribution.log else ""
    step = f" in steps of {distribution.step}" if (distribution.step or 1) != 1 else ""
    return f"{distribution.low} to {distribution.high}{step}{even}"


def number(value: object) -> object:
    """A choice as a number, where it is one: choices of one number may be the same."""
    try:
        return float(str(value))
    except ValueError:
        return value


def whole(distribution: Any) -> str | None:
    """The whole numbers within an interval, as they are typed; None where there are none."""
    from optuna import distributions  # pyright: ignore[reportMissingImports]

    if not isinstance(distribution, distributions.FloatDistribution):
        return None
    low, high = math.ceil(distribution.low), math.floor(distribution.high)
    typed = f"range({low},{high + 1})"
    return (f"tag(log,{typed})" if distribution.log else typed) if low <= high else None


def ends(distribution: Any) -> list[Any]:
    """Every choice of a range, or the first number and the last."""
    from optuna import distributions  # pyright: ignore[reportMissingImports]

    if isinstance(distribution, distributions.CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def combinations(space: Mapping[str, Any]) -> "dict[str, Sequence[Any]] | None":
    """The values of every setting; None where one of them has no end of values."""
    found = {name: _values(distribution) for name, distribution in space.items()}
    return {k: v for k, v in found.items() if v is not None} if None not in found.values() else None


def untried(
    values: Mapping[str, Sequence[Any]], tried: Sequence[Mapping[str, Any]], start: int
) -> dict[str, Any] | None:
    """A combination that has not been tried; None where all have.

    Args:
        values: Of every setting.
        tried: Combinations.
        start: The number of the combination, counted round, from which on to look.
    """
    num = math.prod(map(len, values.values()))
    for number in range(start, start + num):
        found = {}
        for name, choices in values.items():
            number, place = divmod(number, len(choices))
            found[name] = choices[place]
        if found not in tried:
            return found
    return None


def _values(distribution: Any) -> Sequence[Any] | None:
    from optuna import distributions  # pyright: ignore[reportMissingImports]

    if isinstance(distribution, distributions.CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, distributions.IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    return [distribution.low] if distribution.low == distribution.high else None
