"""Scores of many cells, written down one by one: an interrupted run goes on where it was."""

import json
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from darts_gdas.space import Genotype

logger = logging.getLogger(__name__)

Report = Callable[[int, int], None]
"""Is told how many are done, and how many there are."""


@dataclass
class ScoreBook:
    """A file with one line per scored cell and repeat; a line that a crash cut off is dropped.

    Attributes:
        path: Where; None keeps the scores in memory alone.
        settings: What the scores depend on, as text; a file with others is begun anew.
    """

    path: Path | None
    settings: str
    _known: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.path is None:
            return
        lines = self._read(self.path)
        if not lines or lines[0] != {"settings": self.settings}:
            self._known = {}
            lines = [{"settings": self.settings}]
            self.path.write_text(json.dumps(lines[0]) + "\n", encoding="utf-8")
            return
        for line in lines[1:]:
            scores = {k: -math.inf if v is None else v for k, v in line["scores"].items()}
            self._known[line["cell"], line["repeat"]] = scores

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
                    logger.warning("%s: line %d is no score; scoring anew", path, len(lines) + 1)
                    break
                lines.append(line)
                size += len(raw)
            file.truncate(size)
        return lines

    def get(self, genotype: Genotype, repeat: int) -> dict[str, float] | None:
        """Scores that are known already."""
        return self._known.get((genotype.to_json(), repeat))

    def add(self, genotype: Genotype, repeat: int, scores: dict[str, float]) -> None:
        """Keep scores and hand them to the disc."""
        key = genotype.to_json(), repeat
        self._known[key] = scores
        if self.path is None:
            return
        plain = {k: v if math.isfinite(v) else None for k, v in scores.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"cell": key[0], "repeat": repeat, "scores": plain}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _is_entry(line: object) -> bool:
    """Whether a line is one that `ScoreBook.add` writes."""
    if not isinstance(line, dict) or line.keys() != {"cell", "repeat", "scores"}:
        return False
    scores = line["scores"]
    return (
        isinstance(line["cell"], str)
        and isinstance(line["repeat"], int)
        and isinstance(scores, dict)
        and all(value is None or isinstance(value, int | float) for value in scores.values())
    )


def score_all(
    genotypes: Sequence[Genotype],
    repeats: int,
    book: ScoreBook,
    measure: Callable[[Genotype, int], dict[str, float]],
    *,
    report: Report | None = None,
) -> list[list[dict[str, float]]]:
    """Every cell's scores in every repeat; what the book knows is not measured again.

    Args:
        genotypes: The cells; one that occurs twice is measured once.
        repeats: How often each.
        book: Where scores are kept.
        measure: Scores of a cell in a repeat.
        report: Progress.

    Returns:
        [cells][repeats].
    """
    total, done = len(genotypes) * repeats, 0
    found = []
    for genotype in genotypes:
        rows = []
        for repeat in range(repeats):
            scores = book.get(genotype, repeat)
            if scores is None:
                scores = measure(genotype, repeat)
                book.add(genotype, repeat, scores)
            rows.append(scores)
            done += 1
            if report is not None:
                report(done, total)
        found.append(rows)
    return found
