from pathlib import Path

import pytest

from darts_gdas.report.random_cells import random_accuracies
from darts_gdas.report.record import read_record
from darts_gdas.report.verdict import verdict
from tests.report.test_runs import RESULT, make_run


def retrained(folder: Path, cell: Path, accuracy: float, **config: object) -> Path:
    result = RESULT | {
        "kind": "train", "genotype_source": str(cell), "test": {"accuracy": accuracy},
    }  # fmt: skip
    return make_run(folder, f"genotype={cell}", result=result, genotype=str(cell), **config)


@pytest.fixture
def cells(tmp_path: Path) -> dict[str, Path]:
    """One cell that was searched, one that was drawn."""
    return {name: make_run(tmp_path / name, f"method={name}") for name in ("gdas", "random")}


def test_random_cells_trained_alike_are_found_in_folders_and_sweeps(cells, tmp_path: Path):
    here = retrained(tmp_path / "runs" / "here", cells["gdas"], 0.9)
    retrained(tmp_path / "runs" / "one", cells["random"], 0.7, seed=5)
    retrained(tmp_path / "runs" / "sweep" / "0", cells["random"], 0.8, device="cuda")
    assert sorted(random_accuracies(read_record(here))) == [0.7, 0.8]


def test_others_do_not_count(cells, tmp_path: Path):
    runs = tmp_path / "runs"
    here = retrained(runs / "here", cells["random"], 0.9, dataset={"root": "a"})
    retrained(runs / "longer", cells["random"], 0.7, epochs=9, dataset={"root": "a"})
    retrained(runs / "other_data", cells["random"], 0.7, dataset={"root": "b"})
    retrained(runs / "searched", cells["gdas"], 0.7, dataset={"root": "a"})
    make_run(runs / "search", "method=random", dataset={"root": "a"})
    (runs / "damaged").mkdir()
    (runs / "damaged" / "result.json").write_text("{")
    (runs / "list").mkdir()
    (runs / "list" / "result.json").write_text('{"kind": "train", "test": [1]}')
    assert random_accuracies(read_record(here)) == []
    assert verdict(read_record(here)) is None


def test_the_verdict_counts_those_below(cells, tmp_path: Path):
    here = retrained(tmp_path / "runs" / "here", cells["gdas"], 0.9)
    for i, accuracy in enumerate((0.7, 0.8, 0.9)):
        retrained(tmp_path / "runs" / str(i), cells["random"], accuracy)
    assert str(verdict(read_record(here))) == (
        "better than random cells: 90.00 % on the test set is more than 2 of 3 random cells "
        "reached that were retrained alike (80.00 % in the mean)"
    )
    retrained(tmp_path / "runs" / "3", cells["random"], 0.95)
    assert str(verdict(read_record(here))).startswith("no better than random cells: ")
