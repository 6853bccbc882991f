"""Known accuracies out of the files of NATS-Bench, read by its authors' package."""

import importlib
import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from darts_gdas.reasons import installing, reason

SUFFIX = ".pbz2"
"""The ending of NATS-Bench's files: one file of everything, or a folder with one file per cell."""


class Query(NamedTuple):
    """What a column asks the benchmark for.

    Attributes:
        dataset: What the cells were trained on, as the package calls it.
        metric: Which of the results.
        epochs: Length of the training in the table: "200" in the paper, or "12".
    """

    dataset: str
    metric: str
    epochs: str


def _queries() -> dict[str, Query]:
    names = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16": "ImageNet16-120"}
    queries = {}
    for name, split, epochs in itertools.product(names, ("test", "valid"), ("200", "12")):
        # CIFAR-10's validation images are in the training set of "cifar10".
        dataset = "cifar10-valid" if (name, split) == ("cifar10", "valid") else names[name]
        queries[f"{name}_{split}_e{epochs}"] = Query(dataset, f"{split}-accuracy", epochs)
    return queries


QUERIES: Mapping[str, Query] = _queries()
"""By column: data set, images that the accuracy is of, epochs of training."""


@runtime_checkable
class NatsBench(Protocol):
    """The part of the package's object that is read here."""

    def __len__(self) -> int:
        """Number of cells."""
        ...

    def arch(self, index: int) -> str:
        """A cell as a NAS-Bench-201 string."""
        ...

    def get_more_info(
        self, index: int, dataset: str, *, hp: str, is_random: bool
    ) -> Mapping[str, Any]:
        """Results of a cell; the mean over its trainings where `is_random` is false."""
        ...


def is_nats_bench(path: Path) -> bool:
    """Whether a path looks like files of NATS-Bench."""
    return path.is_dir() or path.suffix == SUFFIX


def open_nats_bench(path: Path) -> NatsBench:
    """The topology space of NATS-Bench.

    The files are pickles: opening one runs whatever is in it, so take them from their authors.

    Args:
        path: `NATS-tss-v1_0-3ffb9-simple`, a folder whose cells are read one by one, or
            `NATS-tss-v1_0-3ffb9.pickle.pbz2`, all cells in one file that needs much memory.

    Raises:
        ValueError: If the package is not installed, or cannot read the path.

    Reference:
        Dong et al., TPAMI 2021, https://arxiv.org/abs/2009.00437.
    """
    try:
        package = importlib.import_module("nats_bench")
    except ImportError:
        raise ValueError(
            f"benchmark {str(path)!r} is read by the package nats_bench, which is not installed: "
            f"{installing('bench')}; or pass an .npz or .csv file"
        ) from None
    return _asked(
        path,
        "cannot be read as NATS-Bench's topology space",
        lambda: package.create(str(path), "tss", fast_mode=path.is_dir(), verbose=False),
    )


def read_accuracies(path: Path, column: str) -> tuple[list[str], list[float]]:
    """Every cell and its accuracy in per cent, in the benchmark's order; NaN where it has none.

    Args:
        path: As of `open_nats_bench`.
        column: One of `QUERIES`.
    """
    bench, query = open_nats_bench(path), QUERIES[column]
    texts, values = [], []
    for index in range(len(bench)):
        texts.append(str(bench.arch(index)))
        values.append(
            _asked(path, f"cell {index}", lambda index=index: _accuracy(bench, index, query))
        )
    return texts, values


def _accuracy(bench: NatsBench, index: int, query: Query) -> float:
    try:
        results = bench.get_more_info(index, query.dataset, hp=query.epochs, is_random=False)
    except (AssertionError, LookupError, ValueError):  # there is no file, data set, or training
        return math.nan
    return float(results.get(query.metric, math.nan))


def _asked(path: Path, what: str, question: Callable[[], Any]) -> Any:
    try:
        return question()
    except Exception as error:  # whatever the package and a foreign pickle raise
        raise ValueError(f"benchmark {str(path)!r}: {what}: {reason(error, named=True)}") from error
