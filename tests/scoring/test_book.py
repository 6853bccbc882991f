"""Scores survive a crash: what is whole is kept, what is not is measured again."""

import math
from pathlib import Path

import pytest

from darts_gdas.scoring.book import ScoreBook, score_all
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
    first = score_all(CELLS, 2, ScoreBook(path, "a"), measure)
    assert len(measure.calls) == 6
    again = score_all(CELLS, 2, ScoreBook(path, "a"), measure)
    assert len(measure.calls) == 6
    assert again == first
    assert first[2][1] == {"first": 2.1, "second": -math.inf}


def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path):
    path = tmp_path / "scores.jsonl"
    first = score_all(CELLS, 1, ScoreBook(path, "a"), Counting())
    whole = path.read_bytes()
    for cut in (1, 30):
        path.write_bytes(whole[:-cut])
        measure = Counting()
        assert score_all(CELLS, 1, ScoreBook(path, "a"), measure) == first
        assert measure.calls == [(CELLS[2], 0)]
        assert path.read_bytes() == whole


def test_other_settings_begin_anew(tmp_path: Path):
    path, measure = tmp_path / "scores.jsonl", Counting()
    score_all(CELLS, 1, ScoreBook(path, "a"), measure)
    score_all(CELLS[:1], 1, ScoreBook(path, "b"), measure)
    assert len(measure.calls) == 4
    assert len(path.read_text().splitlines()) == 2


def test_a_cell_that_occurs_twice_is_measured_once():
    measure, seen = Counting(), []
    book = ScoreBook(None, "a")
    score_all([CELLS[0], CELLS[0]], 1, book, measure, report=lambda *done: seen.append(done))
    assert len(measure.calls) == 1
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    "line",
    [
        "3", "[]", "{}", '{"cell": "x", "repeat": 0}', '{"cell": [], "repeat": 0, "scores": {}}',
        '{"cell": "x", "repeat": 0, "scores": {"first": "__import__"}}',
        '{"cell": "x", "repeat": 0, "scores": {}, "__reduce__": 1}',
    ],
)  # fmt: skip
def test_from_a_whole_line_that_is_no_score_it_is_scored_anew(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "scores.jsonl"
    first = score_all(CELLS, 1, ScoreBook(path, "a"), Counting())
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], line + "\n", lines[3]]))
    measure = Counting()
    assert score_all(CELLS, 1, ScoreBook(path, "a"), measure) == first
    assert measure.calls == [(CELLS[2], 0)]
    assert "scores.jsonl: line 4 is no score; scoring anew" in caplog.text


@pytest.mark.parametrize("content", [b"\x80\x04K\x01.", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b""])
def test_a_file_that_is_no_book_is_begun_anew(tmp_path: Path, content: bytes):
    path = tmp_path / "scores.jsonl"
    path.write_bytes(content)
    assert ScoreBook(path, "a").get(CELLS[0], 0) is None
    assert path.read_text() == '{"settings": "a"}\n'
