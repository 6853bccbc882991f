"""Columns as text."""

import csv
import io

import pytest

from darts_gdas.report.columns import csv_text, table_lines


def test_csv_survives_commas():
    text = csv_text({"cell": ["a,b", "c"], "score": [1, 2]})
    assert list(csv.reader(io.StringIO(text))) == [["cell", "score"], ["a,b", "1"], ["c", "2"]]
    with pytest.raises(ValueError, match="one length"):
        csv_text({"a": [1], "b": []})


def test_tables_align():
    assert table_lines(["name", "x"], [["a", "1"], ["long name", "22"]]) == [
        "name        x",
        "-------------",
        "a           1",
        "long name  22",
    ]
