"""Numbers that take long to measure, written down one by one, so that none is measured twice."""

import contextlib
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.division import divided
from darts_gdas.runtime.files import append_line
from darts_gdas.runtime.workers import spread

logger = logging.getLogger(__name__)

Numbers = dict[str, float]
"""What one measurement finds, by names."""

Report = Callable[[int, int], None]
"""Is told how many measurements are done, and how many there are."""


def _as_it_comes(what: str) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


@dataclass
class Journal:
    """A file with one line per measurement; a line that a crash cut off is dropped.

    Attributes:
        path: Where; None keeps the numbers in memory alone, as all ranks do but the first.
        settings: What the numbers depend on, as text; a file with others is begun anew.
        attempt: Around every write, told what is written: `Writes.attempt`, or nothing.
        workers: Processes that measure side by side (`runtime.workers`).
        ranks: Who measures; all of them ask for the same, in the same order.
    """

    path: Path | None
    settings: str
    attempt: Callable[[str], AbstractContextManager[None]] = _as_it_comes
    workers: int = 1
    ranks: Ranks = ALONE
    _known: dict[str, Numbers] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.path is None:
            return
        lines = self._read(self.path)
        if lines and lines[0] == {"settings": self.settings}:
            self._known = {line["key"]: _decoded(line["numbers"]) for line in lines[1:]}
            return
        with self.attempt("what is measured"):
            self.path.unlink(missing_ok=True)
            append_line(self.path, json.dumps({"settings": self.settings}))

    @staticmethod
    def _read(path: Path) -> list[dict]:
        """All whole lines down to the first that is none of ours; the file is cut behind them."""
        if not path.exists():
            return []
        lines, size = [], 0
        with open(path, "rb+") as file:
            for raw in file:
                try:
                    line = json.loads(raw)
                except (ValueError, RecursionError):
                    break
                if not raw.endswith(b"\n"):
                    break
                if lines and not _is_entry(line):
                    number = len(lines) + 1
                    logger.warning("%s: line %d is no measurement; measuring anew", path, number)
                    break
                lines.append(line)
                size += len(raw)
            file.truncate(size)
        return lines

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: str) -> Numbers | None:
        """What was measured under a key."""
        return self._known.get(key)

    def add(self, key: str, numbers: Numbers) -> None:
        """Keep what was measured, and hand it to the disc.

        Raises:
            WriteError: If it cannot be written, and `attempt` lets that pass.
        """
        self._known[key] = numbers
        if self.path is not None:
            with self.attempt("what is measured"):
                line = {"key": key, "numbers": {k: _encoded(v) for k, v in numbers.items()}}
                append_line(self.path, json.dumps(line))

    def measure_all(
        self, keys: Sequence[str], measure: Callable[[int], Numbers], report: Report | None = None
    ) -> list[Numbers]:
        """What stands under each key; what does not is measured, in order.

        Args:
            keys: One that occurs twice is measured once.
            measure: The numbers of the i-th key.
            report: Progress: once before the first measurement, and after each.
        """
        batches = [[i] for i in range(len(keys))]
        return self.measure_batches(keys, batches, lambda batch: [measure(batch[0])], report)

    def measure_batches(
        self,
        keys: Sequence[str],
        batches: Sequence[Sequence[int]],
        measure: Callable[[Sequence[int]], Sequence[Numbers]],
        report: Report | None = None,
    ) -> list[Numbers]:
        """As `measure_all`, several at a time.

        A batch of which anything is missing is measured as a whole, so that its numbers do not
        depend on what an interruption has left of it.

        Args:
            keys: One that occurs twice is measured once.
            batches: Positions of keys that are measured together; each position is in one.
            measure: The numbers of a batch.
            report: Progress: once before the first measurement, and after each.
        """
        known = self.ranks.from_first(lambda: {k: self._known[k] for k in keys if k in self._known})
        self._known.update(known)
        counts = Counter(keys)
        done = sum(counts[key] for key in known)
        if report is not None:
            report(done, len(keys))
        missing: dict[tuple[str, ...], Sequence[int]] = {}
        for batch in batches:
            names = tuple(keys[i] for i in batch)
            if not all(name in known for name in names):
                missing.setdefault(names, batch)
        todo = list(missing.values())

        def keep(position: int, rows: Sequence[Numbers]) -> None:
            nonlocal done
            for i, numbers in zip(todo[position], rows, strict=True):
                if keys[i] in self._known:
                    continue
                self.add(keys[i], numbers)
                done += counts[keys[i]]
                if report is not None:
                    report(done, len(keys))

        def whole() -> list[Numbers]:
            for position, rows in division.arrived():
                keep(position, rows)
            return [self._known[key] for key in keys]

        with divided(self.ranks) as division:
            mine = spread(todo, measure, self.workers, division.take(len(todo)))
            with contextlib.closing(mine):
                for position, rows in division.exchange(mine):
                    keep(position, rows)
        found = self.ranks.from_first(whole)
        self._known.update(zip(keys, found, strict=True))
        return found


def _encoded(number: float) -> float | str:
    """JSON has no words for what is not finite."""
    return number if math.isfinite(number) else str(number)


def _decoded(numbers: dict[str, float | str]) -> Numbers:
    return {name: float(number) for name, number in numbers.items()}


def _is_entry(line: object) -> bool:
    """Whether a line is one that `Journal.add` writes."""
    if not isinstance(line, dict) or line.keys() != {"key", "numbers"}:
        return False
    numbers = line["numbers"]
    return (
        isinstance(line["key"], str)
        and isinstance(numbers, dict)
        and all(isinstance(v, int | float) or v in _WORDS for v in numbers.values())
    )


_WORDS = ("inf", "-inf", "nan")
