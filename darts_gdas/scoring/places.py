"""Where the rows of a table stand, so that what is wrong with one can be found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Number = TypeVar("Number", int, float)
Numbers = Sequence[float | int]


@dataclass(frozen=True)
class Places:
    """Where the rows of a table stand, for errors that name them.

    Attributes:
        path: The table.
        unit: What is counted: "line", "row" or "cell".
        numbered: The number of each row; None counts from 0.
    """

    path: Path
    unit: str
    numbered: Sequence[int] | None = None

    def at(self, row: int) -> str:
        """One place in words."""
        return f"{self.unit} {row if self.numbered is None else self.numbered[row]}"

    def error(self, text: str) -> ValueError:
        """An error about this table."""
        return ValueError(f"benchmark {str(self.path)!r}: {text}")

    def numbers(self, texts: Sequence[str | None], kind: type[Number]) -> list[Number]:
        """The texts of a column as numbers."""
        found = []
        for row, text in enumerate(texts):
            try:
                found.append(kind(text or ""))
            except ValueError as error:
                raise self.error(f"{self.at(row)}: {error}") from None
        return found

    def check_once(self, texts: Sequence[str], values: Numbers, what: str) -> None:
        """Raise a `ValueError` if a cell stands there twice with two values."""
        first: dict[str, int] = {}
        for row, (text, value) in enumerate(zip(texts, values, strict=False)):
            if math.isnan(value):  # none at all
                continue
            before = first.setdefault(text, row)
            if value != values[before]:
                raise self.error(
                    f"{self.at(before)} and {self.at(row)} give the cell {text} two {what}, "
                    f"{values[before]:g} and {value:g}; keep one of them"
                )

    def check_percent(self, values: Numbers, column: str) -> None:
        """Raise a `ValueError` unless these can be accuracies in per cent; NaN is none at all."""
        known = [row for row, value in enumerate(values) if not math.isnan(value)]
        wrong = [row for row in known if not 0 <= values[row] <= 100]
        if wrong:
            shown = ", ".join(f"{values[row]:g} in {self.at(row)}" for row in wrong[:5])
            raise self.error(
                f"accuracies must lie in 0..100 per cent, {column!r} has {len(wrong)} outside: "
                f"{shown}; leave the field of an unknown accuracy as nan"
            )
        highest = max(known, key=values.__getitem__)
        if values[highest] <= 1:
            raise self.error(
                f"accuracies must be in per cent, but the highest of {column!r} is "
                f"{values[highest]:g} in {self.at(highest)}; multiply fractions by 100"
            )
