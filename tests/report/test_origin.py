import json
from pathlib import Path

import pytest
import yaml

from darts_gdas.report.origin import data_name, origin_of, origin_told
from darts_gdas.report.source import source_name
from darts_gdas.space import Genotype
from tests.report.test_runs import make_run

FOLDER = {"root": "set", "image_size": 8, "skip_corrupt": False}


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """A finished search on pictures."""
    folder = make_run(tmp_path / "found", "method=darts", "dataset=image_folder")
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": 7, "dataset": FOLDER}))
    return folder


def test_a_cell_says_which_search_found_it_on_what(search: Path):
    source = str(search / "genotype.json")
    begin = (
        f"the cell is {source}, found by darts (seed 7) on images of set (root=set, image_size=8)"
    )
    said = {"dataset": "image_folder"}
    assert origin_of(source, {"dataset": FOLDER}, said) == f"{begin}: the same data"
    digits = {"dataset": {"test_fraction": 0.2, "seed": 0}}
    told = origin_of(source, digits, {})
    assert told == f"{begin}: other data than here, digits (test_fraction=0.2, seed=0)"


def test_a_published_cell_has_no_search():
    assert origin_of("DARTS_V2", {"dataset": FOLDER}, {}) == "the cell is DARTS_V2"


def test_a_cell_that_is_written_out_is_no_path():
    """It may be longer than the name of a file can be."""
    text = f"Genotype({300 * 'x'})"
    assert origin_of(text, {"dataset": FOLDER}, {}) == f"the cell is {source_name(text)}"
    assert origin_told([text], Genotype.load("DARTS_V2"), {"dataset": FOLDER}, {}) == {}


def test_data_are_told_by_name_or_by_their_settings():
    assert data_name({"dataset": FOLDER}, {"dataset": "image_folder"}) == "images of set"
    assert data_name({"dataset": {"download": False}}, {"dataset": "mine"}) == "mine"
    assert data_name({"dataset": {"download": False}}, {}, 10) == "cifar10"
    assert data_name({}, {}) is None


CELL, OTHER = Genotype.load("DARTS_V1"), Genotype.load("DARTS_V2")


def told(*sources: str | None, cell: Genotype = CELL) -> dict:
    return origin_told(sources, cell, {"dataset": FOLDER}, {"dataset": "image_folder"})


def test_warnings_come_with_the_answer_of_a_run(tmp_path: Path):
    (tmp_path / "genotype.json").write_text(CELL.to_json())
    (tmp_path / "other.json").write_text(OTHER.to_json())
    result = {"kind": "search", "warnings": ["one", "two"]}
    (tmp_path / "result.json").write_text(json.dumps(result))
    for source in (tmp_path, tmp_path / "genotype.json"):
        assert told(str(source), None) == {"warnings": ["one", "two"]}
    assert told(str(tmp_path / "other.json"), cell=OTHER) == {}
    assert told("DARTS_V1", str(tmp_path / "none")) == {}


def test_a_run_that_goes_on_finds_them_in_its_own_lines(tmp_path: Path):
    (tmp_path / "genotype.json").write_text(CELL.to_json())
    kept = {"warnings": ["one"], "search": {"folder": "x", "accuracy": 0.4, "same_data": True}}
    line = {"epoch": 0, "test/accuracy": 0.5, **kept}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert told(str(tmp_path)) == kept


@pytest.mark.parametrize("same", [True, False])
def test_the_accuracies_of_the_search_are_told_and_whether_they_are_of_the_same_data(
    search: Path, same: bool
):
    (search / "genotype.json").write_text(CELL.to_json())
    metrics = {"validation/accuracy": 0.9, "search/selected_accuracy": 0.8, "train/loss": 1.0}
    (search / "result.json").write_text(json.dumps({"kind": "search", "metrics": metrics}))
    here = FOLDER if same else {**FOLDER, "image_size": 16}
    found = origin_told([str(search)], CELL, {"dataset": here}, {"dataset": "image_folder"})
    expected = {"accuracy": 0.9, "selected_accuracy": 0.8, "same_data": same}
    assert found == {"search": {"folder": str(search), **expected}}
