import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from darts_gdas.report.random_cells import random_accuracies
from darts_gdas.report.record import read_record
from darts_gdas.report.verdict import verdict
from darts_gdas.space import CellGenotype, Genotype
from tests.report.test_runs import RESULT, make_run

CONV, SKIP, POOL, NONE = "nor_conv_3x3", "skip_connect", "avg_pool_3x3", "none"
ONE = {"count": 1}
"""The discretizer of `method=random`."""


def cell(*ops: str) -> Genotype:
    return Genotype.load("|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*ops))


FOUND = cell(CONV, CONV, CONV, CONV, CONV, CONV)
CELLS = [cell(CONV, *[SKIP] * n, *[POOL] * (5 - n)) for n in range(5)]
"""Different networks, all of one space."""


class Sweep:
    """Searches, and retrainings of their cells that lie side by side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def retrained(
        self,
        accuracy: float,
        genotype: Genotype = FOUND,
        method: str | None = "gdas",
        *,
        where: str = "",
        data: str = "digest",
        search: Mapping[str, Any] | None = None,
        **config: object,
    ) -> Path:
        """Retrain a cell that a search has found; a method of None is none that is known."""
        self.count += 1
        source = "DARTS_V1"
        if method is not None:
            space = {"space": {"candidates": [CONV, SKIP]}, "discretizer": ONE}
            found = self.folder / "searches" / str(self.count)
            source = str(make_run(found, f"method={method}", **{**space, **(search or {})}))
        result = RESULT | {
            "kind": "train", "genotype_source": source, "test": {"accuracy": accuracy},
        }  # fmt: skip
        folder = self.folder / "runs" / (where or str(self.count))
        make_run(folder, f"genotype={source}", result=result, genotype=source, **config)
        content = {"data": data, "genotype_content": genotype.to_json(), "files": {}}
        (folder / "content.json").write_text(json.dumps(content))
        return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def test_random_cells_trained_alike_are_found_in_folders_and_sweeps(sweep: Sweep):
    here = sweep.retrained(0.9, dataset={"root": "a"})
    sweep.retrained(0.7, CELLS[0], "random", seed=5, dataset={"root": "a"})
    moved = {"root": "b"}  # the same images elsewhere
    sweep.retrained(0.8, CELLS[1], "random", where="sweep/0", device="cuda", dataset=moved)
    assert sorted(random_accuracies(read_record(here))) == [0.7, 0.8]


def test_others_do_not_count(sweep: Sweep, tmp_path: Path):
    here = sweep.retrained(0.9)
    sweep.retrained(0.7, CELLS[0], "random", epochs=9)
    sweep.retrained(0.7, CELLS[0], "random", data="other images under the same root")
    sweep.retrained(0.7, CELLS[0], "gdas")
    sweep.retrained(0.7, CELLS[0], "random", search={"space": {"candidates": [CONV]}})
    sweep.retrained(0.7, CELLS[0], "random", search={"discretizer": {"count": 5}})
    kept = sweep.retrained(0.7, CELLS[0], "random")
    (kept / "content.json").unlink()  # of which images is not known
    runs = tmp_path / "runs"
    make_run(runs / "search", "method=random")
    (runs / "damaged").mkdir()
    (runs / "damaged" / "result.json").write_text("{")
    (runs / "list").mkdir()
    (runs / "list" / "result.json").write_text('{"kind": "train", "test": [1]}')
    assert random_accuracies(read_record(here)) == []
    assert verdict(read_record(here)) is None


def test_a_network_counts_once_however_often_it_was_retrained_and_however_it_is_written(
    sweep: Sweep,
):
    one = cell(CONV, NONE, NONE, NONE, SKIP, NONE)
    two = cell(SKIP, NONE, CONV, NONE, NONE, SKIP)  # the same convolution alone
    here = sweep.retrained(0.9)
    for seed, (accuracy, genotype) in enumerate([(0.5, one), (0.6, one), (1.0, two)]):
        sweep.retrained(accuracy, genotype, "random", seed=seed)
    sweep.retrained(0.8, CELLS[0], "random")
    assert random_accuracies(read_record(here)) == pytest.approx([0.7, 0.8])


def test_a_random_cell_is_not_held_against_itself(sweep: Sweep):
    here = sweep.retrained(0.9, CELLS[0], "random", seed=0)
    sweep.retrained(0.8, CELLS[0], "random", seed=1)
    assert random_accuracies(read_record(here)) == []
    sweep.retrained(0.7, CELLS[1], "random")
    assert random_accuracies(read_record(here)) == [0.7]
    found = sweep.retrained(0.95, CELLS[1])  # a search may find what another drew
    assert sorted(random_accuracies(read_record(found))) == pytest.approx([0.7, 0.85])


def test_a_cell_without_a_search_is_held_against_cells_of_its_form(sweep: Sweep):
    here = sweep.retrained(0.9, FOUND, None)
    sweep.retrained(0.7, CELLS[0], "random")
    last = CELLS[1].cells["normal"]
    smaller = Genotype({"normal": CellGenotype(last.nodes[:2], (2,), 1)})
    sweep.retrained(0.6, smaller, "random")
    assert random_accuracies(read_record(here)) == [0.7]


def test_the_verdict_counts_those_below(sweep: Sweep):
    here = sweep.retrained(0.9)
    for genotype, accuracy in zip(CELLS, (0.7, 0.8, 0.9), strict=False):
        sweep.retrained(accuracy, genotype, "random")
    assert str(verdict(read_record(here))) == (
        "better than random cells: 90.00 % on the test set is more than 2 of 3 random cells "
        "reached that were retrained alike (80.00 % in the mean)"
    )
    sweep.retrained(0.95, CELLS[3], "random")
    assert str(verdict(read_record(here))).startswith("no better than random cells: ")


@pytest.mark.parametrize(("other", "told"), [(0.7, "more than"), (0.95, "no more than")])
def test_the_verdict_over_one_random_cell_counts_none(sweep: Sweep, other: float, told: str):
    here = sweep.retrained(0.9)
    sweep.retrained(other, CELLS[0], "random")
    assert str(verdict(read_record(here))).endswith(
        f"90.00 % on the test set is {told} the one random cell reached that was retrained alike "
        f"({100 * other:.2f} %)"
    )
