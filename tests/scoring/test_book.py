"""Scores of cells are asked for once per cell and repeat."""

import math
from pathlib import Path

from darts_gdas.runtime.journal import Journal
from darts_gdas.scoring.book import score_all
from darts_gdas.space import Genotype

CELLS = [Genotype.load(name) for name in ("DARTS_V1", "DARTS_V2", "GDAS_V1")]


class Counting:
    """Scores that tell how often they were measured."""

    def __init__(self) -> None:
        self.calls: list[tuple[Genotype, int]] = []

    def __call__(self, genotype: Genotype, repeat: int) -> dict[str, float]:
        self.calls.append((genotype, repeat))
        return {"first": CELLS.index(genotype) + repeat / 10, "second": -math.inf}


def test_a_second_run_measures_nothing(tmp_path: Path):
    path, measure = tmp_path / "scores.jsonl", Counting()
    first = score_all(CELLS, 2, Journal(path, "a"), measure)
    assert measure.calls == [(cell, repeat) for cell in CELLS for repeat in (0, 1)]
    assert score_all(CELLS, 2, Journal(path, "a"), measure) == first
    assert len(measure.calls) == 6
    assert first[2][1] == {"first": 2.1, "second": -math.inf}


def test_a_cell_that_occurs_twice_is_measured_once():
    measure, seen = Counting(), []
    journal = Journal(None, "a")
    found = score_all([CELLS[0]] * 2, 1, journal, measure, report=lambda *done: seen.append(done))
    assert len(measure.calls) == 1 and found[0] == found[1]
    assert seen == [(0, 2), (2, 2)]
