"""Sources of cells: names, folders and whole cells."""

import json
from pathlib import Path

import pytest

from darts_gdas.report.source import folder_of, search_folder, source_name
from darts_gdas.space import Genotype


def test_a_cell_that_is_written_out_has_a_short_name_however_it_is_spelt():
    first, second = (Genotype.load(name).to_json() for name in ("DARTS_V1", "DARTS_V2"))
    assert len(first) > 255  # no name of a file is so long
    assert source_name(second) == source_name(json.dumps(json.loads(second)))
    assert source_name(first) != source_name(second)
    assert source_name("{broken").startswith("cell ") and source_name("DARTS_V2") == "DARTS_V2"
    assert folder_of(first) is None and search_folder(first) is None


@pytest.mark.parametrize("inside", ["", "genotype.json"])
def test_a_finished_run_is_found_by_its_folder_and_by_a_file_in_it(inside: str, tmp_path: Path):
    source = str(tmp_path / inside)
    assert folder_of(source) == tmp_path and search_folder(source) is None
    for name in ("result.json", "overrides.yaml"):
        (tmp_path / name).write_text("")
    assert search_folder(source) == tmp_path
