"""A training knows what the search of its cell warned of, and of no other cell."""

import json
from pathlib import Path

from darts_gdas.cli.origin import origin_warnings
from darts_gdas.space import Genotype

CELL, OTHER = Genotype.load("DARTS_V1"), Genotype.load("DARTS_V2")


def test_warnings_come_with_the_answer_of_a_run(tmp_path: Path):
    (tmp_path / "genotype.json").write_text(CELL.to_json())
    (tmp_path / "other.json").write_text(OTHER.to_json())
    result = {"kind": "search", "warnings": ["one", "two"]}
    (tmp_path / "result.json").write_text(json.dumps(result))
    for source in (tmp_path, tmp_path / "genotype.json"):
        assert origin_warnings((str(source), None), CELL) == ["one", "two"]
    assert origin_warnings((str(tmp_path / "other.json"),), OTHER) == []
    assert origin_warnings(("DARTS_V1", str(tmp_path / "none")), CELL) == []


def test_a_run_that_goes_on_finds_them_in_its_own_lines(tmp_path: Path):
    (tmp_path / "genotype.json").write_text(CELL.to_json())
    line = {"epoch": 0, "test/accuracy": 0.5, "warnings": ["one"]}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert origin_warnings((str(tmp_path),), CELL) == ["one"]
