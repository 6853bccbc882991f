"""docs/reliability.md names tests that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \|(.*)", TABLE, re.MULTILINE)


def test_every_fault_has_a_row():
    assert [int(number) for number, _ in ROWS] == [*range(1, 55)]


@pytest.mark.parametrize(("number", "row"), ROWS, ids=lambda value: value[:2].strip())
def test_the_tests_of_a_row_are_there(number: str, row: str):
    file = ""
    for text in re.findall(r"`([^`]+)`", row.rsplit(" | ", 1)[1]):
        name, _, test = text.rpartition("::")
        file = name or (test if test.endswith(".py") else file)
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert test == file or f"def {test.removesuffix('...')}" in source, f"{number}: {text}"
