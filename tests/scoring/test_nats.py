"""NATS-Bench's files, through a stand-in for its package: the real files are not at hand.

The stand-in has the signatures of nats_bench 1.8: `create(path, search_space, fast_mode, verbose)`,
`arch(index)`, `get_more_info(index, dataset, iepoch, hp, is_random)`, `len`.
"""

import importlib
import random
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from darts_gdas.reasons import installing
from darts_gdas.scoring.nats import QUERIES, is_nats_bench
from darts_gdas.scoring.table import AccuracyTable, arch_string
from darts_gdas.space import Genotype, SearchSpace

NAMES = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
TEXTS = [arch_string([NAMES[(i + k) % 5] for k in range(6)]) for i in range(5)]
MISSING, SEEDS = 3, (777, 888)


class Topology:
    """What `create` returns: two trainings per cell, cell 3 has not been trained."""

    def __init__(self, path: str, fast_mode: bool, verbose: bool) -> None:
        if fast_mode != Path(path).is_dir() or verbose:
            raise ValueError("fast_mode is for folders")
        if "damaged" in Path(path).name:
            raise EOFError("Compressed file ended before the end-of-stream marker was reached")
        self.broken = "broken" in Path(path).name

    def __len__(self) -> int:
        return len(TEXTS)

    def arch(self, index: int) -> str:
        return TEXTS[index]

    def get_more_info(
        self, index: int, dataset: str, iepoch: Any = None, hp: str = "12", is_random: bool = True
    ) -> dict[str, float]:
        if self.broken:
            raise OSError("Invalid data stream")
        if index == MISSING:
            raise ValueError(f"Did not find {index} from arch2infos_dict.")
        seeds = random.sample(SEEDS, 1) if is_random else SEEDS
        results = {}
        for split in ("valid", "test"):
            if (dataset, split) != ("cifar10", "valid"):  # those were trained on
                values = [result(index, dataset, split, int(hp), seed) for seed in seeds]
                results[f"{split}-accuracy"] = sum(values) / len(values)
        return results


def result(index: int, dataset: str, split: str, epochs: int, seed: int) -> float:
    """A number below 100 for every training, different for all that a column may ask for."""
    kind = ["cifar10-valid", "cifar10", "cifar100", "ImageNet16-120"].index(dataset)
    return 10 * index + 2 * kind + (split == "test") + epochs / 1000 + seed / 1e5


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("nats_bench")

    def create(path: str, search_space: str, fast_mode: bool = False, verbose: bool = True):
        assert search_space in ("tss", "topology")
        return Topology(path, fast_mode, verbose)

    module.create = create  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nats_bench", module)


def files(tmp_path: Path, name: str, *, folder: bool) -> Path:
    path = tmp_path / (name if folder else f"{name}.pickle.pbz2")
    path.mkdir() if folder else path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("column", "dataset", "split", "epochs"),
    [
        ("cifar10_test_e200", "cifar10", "test", 200),
        ("cifar10_valid_e200", "cifar10-valid", "valid", 200),
        ("cifar100_valid_e12", "cifar100", "valid", 12),
        ("imagenet16_test_e200", "ImageNet16-120", "test", 200),
    ],
)
@pytest.mark.parametrize("folder", [True, False], ids=["folder", "file"])
def test_a_column_is_the_mean_over_the_trainings_of_every_cell(
    package: None, tmp_path: Path, folder: bool, column: str, dataset: str, split: str, epochs: int
):
    table = AccuracyTable.load(files(tmp_path, "NATS-tss", folder=folder), column)
    assert table.column == column and len(table.accuracies) == len(TEXTS) - 1
    for index, text in enumerate(TEXTS):
        genotype = Genotype.load(text)
        assert table.index(genotype) == index
        if index == MISSING:
            continue
        values = [result(index, dataset, split, epochs, seed) for seed in SEEDS]
        assert table.accuracy(genotype) == pytest.approx(sum(values) / 2, rel=1e-12)


def test_a_cell_without_results_is_unknown_and_named_where_all_are_needed(
    package: None, tmp_path: Path
):
    table = AccuracyTable.load(files(tmp_path, "a", folder=True), "cifar10_test_e200")
    with pytest.raises(ValueError, match="does not know the cell"):
        table.accuracy(Genotype.load(TEXTS[MISSING]))
    with pytest.raises(ValueError, match=r"lacks 15621 of the 15625 cells of this space"):
        table.check_complete(SearchSpace.named("nasbench201"))


def test_every_column_asks_for_something_else(package: None, tmp_path: Path):
    path = files(tmp_path, "a", folder=True)
    best = {column: AccuracyTable.load(path, column).best for column in QUERIES}
    assert len(best) == len(set(best.values())) == 3 * 2 * 2


def test_a_column_must_be_chosen(package: None, tmp_path: Path):
    with pytest.raises(ValueError, match=r"benchmark_column must be one of cifar10_test_e200, .*"):
        AccuracyTable.load(files(tmp_path, "a", folder=True))


@pytest.mark.parametrize("folder", [True, False], ids=["folder", "file"])
def test_without_the_package_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: bool
):
    monkeypatch.setitem(sys.modules, "nats_bench", None)  # importing it fails
    with pytest.raises(ImportError):
        importlib.import_module("nats_bench")
    path = files(tmp_path, "a", folder=folder)
    with pytest.raises(ValueError, match=re.escape(f"not installed: {installing('bench')}")):
        AccuracyTable.load(path, "cifar10_test_e200")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("damaged", "cannot be read as NATS-Bench's topology space: EOFError: Compressed file"),
        ("broken", "cell 0: OSError: Invalid data stream"),
    ],
)
def test_damaged_files_are_one_line(package: None, tmp_path: Path, name: str, message: str):
    with pytest.raises(ValueError, match=message) as error:
        AccuracyTable.load(files(tmp_path, name, folder=False), "cifar10_test_e200")
    assert "\n" not in str(error.value)


def test_other_files_are_no_nats_bench(tmp_path: Path):
    assert is_nats_bench(tmp_path) and is_nats_bench(Path("NATS-tss-v1_0-3ffb9.pickle.pbz2"))
    assert not is_nats_bench(tmp_path / "table.npz")
