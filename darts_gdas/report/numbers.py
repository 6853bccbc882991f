"""Which numbers can be drawn, and how they are written in few characters."""

import math
from collections.abc import Iterable
from typing import TypeGuard

LARGEST = 1e30


def is_number(value: object) -> TypeGuard[float]:
    """Whether something is a finite number that a chart can hold.

    Example:
        >>> [is_number(v) for v in (1, 0.5, True, "1", float("nan"), 1e300)]
        [True, True, False, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < LARGEST


def short(value: float) -> str:
    """A number in few characters.

    Example:
        >>> [short(v) for v in (0.0, 0.025, 12.0, 1930618.0, 0.00001)]
        ['0', '0.025', '12', '1.93M', '1e-5']
    """
    for size, unit, above in ((1e9, "G", 1e9), (1e6, "M", 1e6), (1e3, "k", 1e4)):
        if abs(value) >= above:
            return f"{value / size:.3g}{unit}"
    if value and abs(value) < 1e-3:
        return f"{value:.3g}".replace("e-0", "e-")
    return f"{value:.4g}"


def few_digits(texts: Iterable[str]) -> dict[str, str]:
    """How numbers are told apart in as few digits as that takes, four or more; other words stay.

    Example:
        >>> [*few_digits(["0.031415926535", "0.0271828182", "gdas", "120000"]).values()]
        ['0.03142', '0.02718', 'gdas', '120000']
        >>> [*few_digits(["0.100001", "0.100002"]).values()]
        ['0.100001', '0.100002']
    """
    known = [*dict.fromkeys(texts)]
    for digits in (4, 6, 9, 12):
        told = {text: _rounded(text, digits) for text in known}
        if len({*told.values()}) == len(known):
            return told
    return {text: text for text in known}


def _rounded(text: str, digits: int) -> str:
    try:
        told = text if text.lstrip("-").isdigit() else f"{float(text):.{digits}g}"
    except ValueError:
        return text
    return min(told, text, key=len)


def ticks(low: float, high: float, *, most: int = 4) -> list[float]:
    """Round numbers in a range that is not empty, at most so many steps apart.

    Example:
        >>> ticks(0.0, 0.93)
        [0.0, 0.25, 0.5, 0.75]
    """
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def powers(low: float, high: float) -> list[float]:
    """Where round numbers stand on an axis of powers of ten; few decades have 1, 2 and 5 of each.

    A part of a decade that has hardly one of these has steps of one size.

    Example:
        >>> [short(10**power) for power in powers(-3.2, -1.6)]
        ['0.001', '0.002', '0.005', '0.01', '0.02']
        >>> powers(-3.2, 1.6)
        [-3.0, -2.0, -1.0, 0.0, 1.0]
        >>> [short(10**power) for power in powers(-1.97, -1.71)]
        ['0.0125', '0.015', '0.0175']
    """
    factors = (1, 2, 5) if high - low < 2 else (1,)
    decades = range(math.floor(low), math.ceil(high))
    places = [decade + math.log10(factor) for decade in decades for factor in factors]
    inside = [place for place in (*places, float(math.ceil(high))) if low <= place <= high]
    return inside if len(inside) > 1 else [math.log10(v) for v in ticks(10**low, 10**high)]


def span(values: list[float], *, margin: float, least: float = 0.1) -> tuple[float, float]:
    """A range around values, at least `least` of their size wide.

    Example:
        >>> span([1.0, 3.0], margin=0.5), span([2.0], margin=0.0), span([], margin=0.0)
        ((0.0, 4.0), (1.9, 2.1), (0.0, 1.0))
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    size = max(abs(low), abs(high))
    missing = (least * size if size >= 1e-12 else 1.0) - (high - low)
    room = missing / 2 if missing > 0 else margin * (high - low)
    return low - room, high + room
