"""Known accuracies: what training every cell of a space has shown."""

import csv
import itertools
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darts_gdas.nets.operations import check_operations
from darts_gdas.scoring.nats import QUERIES, SUFFIX, is_nats_bench, read_accuracies
from darts_gdas.scoring.places import Places
from darts_gdas.space import Genotype, SearchSpace

EDGES = ("0-1", "0-2", "1-2", "0-3", "1-3", "2-3")
"""Edges of a NAS-Bench-201 cell, source-node, in the order of its strings."""

_UNREADABLE = (
    OSError, EOFError, LookupError, MemoryError, TypeError, ValueError, csv.Error,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What files of strangers raise, pickled objects in an npz file (ValueError) included."""


@dataclass(frozen=True, eq=False)
class AccuracyTable:
    """Accuracies of NAS-Bench-201 cells after training.

    Attributes:
        accuracies: In per cent, by the cell's string.
        indices: The benchmark's number of each cell, where the table says it.
        column: What the accuracies are.
    """

    accuracies: Mapping[str, float]
    indices: Mapping[str, int]
    column: str

    @classmethod
    def load(cls, path: str | Path, column: str | None = None) -> "AccuracyTable":
        """Read a table.

        Args:
            path: An npz file with `ops` [cells, 6], numbers into `op_names`, optionally `edges`
                that names their order, and columns [cells], row i being cell number i; or a CSV
                file with a header, cells as strings in a column `arch` and further columns; or
                files of NATS-Bench (`scoring.nats`), whose columns are `nats.QUERIES`.
            column: Which one; None takes the only one.

        Raises:
            ValueError: If the file cannot be read as any of them, or lacks the column.
        """
        path = Path(path)
        if not path.exists():
            raise ValueError(f"benchmark {str(path)!r} does not exist; pass an .npz or .csv file")
        if is_nats_bench(path):
            return cls._from_nats_bench(path, column)
        try:
            if path.suffix == ".npz":
                return cls._from_npz(path, column)
            if path.suffix == ".csv":
                return cls._from_csv(path, column)
        except _UNREADABLE as error:
            if str(error).startswith("benchmark "):
                raise
            raise ValueError(f"benchmark {str(path)!r} cannot be read: {error}") from None
        raise ValueError(
            f"benchmark {str(path)!r} must be an .npz or a .csv file, or NATS-Bench's folder or "
            f"{SUFFIX} file"
        )

    @classmethod
    def _from_npz(cls, path: Path, column: str | None) -> "AccuracyTable":
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is no npz file")
        with np.load(path, allow_pickle=False) as file:
            operations, names = file["ops"], [str(name) for name in file["op_names"]]
            edges = [str(edge) for edge in file["edges"]] if "edges" in file else list(EDGES)
            if operations.shape[1:] != (len(EDGES),) or sorted(edges) != sorted(EDGES):
                raise ValueError(
                    f"benchmark {str(path)!r}: ops must be [cells, 6] over the edges "
                    f"{', '.join(EDGES)}, got shape {operations.shape} over {', '.join(edges)}"
                )
            if operations.dtype.kind not in "iu" or not _lie_below(operations, len(names)):
                raise ValueError(
                    f"benchmark {str(path)!r}: ops must hold numbers into the {len(names)} op_names"
                )
            columns = [
                name
                for name in file.files
                if file[name].shape == operations.shape[:1] and file[name].dtype.kind == "f"
            ]
            chosen = _choose(columns, column, path)
            values = file[chosen].astype(float)
        order = [edges.index(edge) for edge in EDGES]
        texts = [arch_string([names[row[i]] for i in order]) for row in operations]
        return cls._build(texts, values.tolist(), range(len(texts)), chosen, Places(path, "row"))

    @classmethod
    def _from_csv(cls, path: Path, column: str | None) -> "AccuracyTable":
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a mark
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or ())
            numbered = [(reader.line_num, row) for row in reader]
        rows = [row for _, row in numbered]
        places = Places(path, "line", [number for number, _ in numbered])
        if len(set(header)) < len(header):
            raise ValueError(f"benchmark {str(path)!r} names a column twice: {', '.join(header)}")
        if "arch" not in header:
            raise ValueError(
                f"benchmark {str(path)!r} needs a column 'arch' of NAS-Bench-201 strings, "
                f"it has {header}"
            )
        known = ("arch", "index")
        chosen = _choose([name for name in header if name not in known], column, path)
        values = places.numbers([row[chosen] for row in rows], float)
        indices = places.numbers([row["index"] for row in rows], int) if "index" in header else []
        return cls._build([row["arch"] or "" for row in rows], values, indices, chosen, places)

    @classmethod
    def _from_nats_bench(cls, path: Path, column: str | None) -> "AccuracyTable":
        chosen = _choose(list(QUERIES), column, path)
        texts, values = read_accuracies(path, chosen)
        return cls._build(texts, values, range(len(texts)), chosen, Places(path, "cell"))

    @classmethod
    def _build(
        cls,
        texts: Sequence[str],
        values: Sequence[float],
        indices: Sequence[int],
        column: str,
        places: Places,
    ) -> "AccuracyTable":
        parsed = [Genotype.from_arch_string(text).operations for text in texts]
        check_operations(frozenset().union(*parsed), f"benchmark {str(places.path)!r}")
        places.check_once(texts, values, "accuracies")
        places.check_once(texts, indices, "numbers")
        known = {t: v for t, v in zip(texts, values, strict=True) if not np.isnan(v)}
        if not known:
            raise ValueError(f"benchmark {str(places.path)!r} has no accuracy in {column!r}")
        places.check_percent(values, column)
        return cls(known, dict(zip(texts, indices, strict=False)), column)

    def check_space(self, space: SearchSpace) -> None:
        """Raise a `ValueError` unless the table speaks of cells of this space."""
        example = next(iter(self.accuracies))
        kinds = space.cells
        if len(kinds) > 1 or next(iter(kinds.values())).edges != (
            (0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)
        ):  # fmt: skip
            raise ValueError(
                f"benchmark knows cells such as {example}, which space=nasbench201 has; "
                "this space is another"
            )

    def check_complete(self, space: SearchSpace) -> None:
        """Raise a `ValueError` unless the table knows every cell that a search here can find."""
        (cell,) = space.cells.values()
        cells = map(arch_string, itertools.product(*map(cell.derivable, range(len(EDGES)))))
        missing = [text for text in cells if text not in self.accuracies]
        if missing:
            raise ValueError(
                f"benchmark lacks {len(missing)} of the {cell.num_cells} cells of this space, "
                f"{missing[0]} first; a search could not say what it found"
            )

    def check_cells(self, genotypes: Sequence[Genotype]) -> None:
        """Raise a `ValueError` unless the table knows all of these cells."""
        texts = [genotype.to_arch_string() for genotype in genotypes]
        missing = [text for text in texts if text not in self.accuracies]
        if missing:
            raise ValueError(
                f"benchmark lacks {len(missing)} of the {len(texts)} cells to be ranked, "
                f"{missing[0]} first; take a table that has them, or name others with cells=FILE"
            )

    def standing(self, genotype: Genotype) -> dict[str, float]:
        """Accuracy, regret and percentile of a cell by these names."""
        return {
            "accuracy": self.accuracy(genotype),
            "regret": self.regret(genotype),
            "percentile": self.percentile(genotype),
        }

    def accuracy(self, genotype: Genotype) -> float:
        """Accuracy of a cell in per cent.

        Raises:
            ValueError: If the table does not know it.
        """
        text = genotype.to_arch_string()
        if text not in self.accuracies:
            raise ValueError(f"benchmark does not know the cell {text}")
        return self.accuracies[text]

    def index(self, genotype: Genotype) -> int | None:
        """The benchmark's number of a cell, where the table says it."""
        return self.indices.get(genotype.to_arch_string())

    @property
    def best(self) -> float:
        """The highest accuracy."""
        return max(self.accuracies.values())

    def regret(self, genotype: Genotype) -> float:
        """Percentage points that a cell lacks to the best one."""
        return self.best - self.accuracy(genotype)

    def percentile(self, genotype: Genotype) -> float:
        """Per cent of all cells that are no better."""
        values = np.fromiter(self.accuracies.values(), dtype=float)
        return 100 * float(np.mean(values <= self.accuracy(genotype)))


def arch_string(operations: Sequence[str]) -> str:
    """A NAS-Bench-201 string of its six operations, in the order of `EDGES`."""
    names = iter(operations)
    nodes = ("".join(f"|{next(names)}~{source}" for source in range(n)) for n in (1, 2, 3))
    return "+".join(f"{node}|" for node in nodes)


def _lie_below(numbers: np.ndarray, end: int) -> bool:
    return bool(((numbers >= 0) & (numbers < end)).all())


def _choose(columns: Sequence[str], column: str | None, path: Path) -> str:
    if column is None and len(columns) == 1:
        return columns[0]
    if column is None or column not in columns:
        raise ValueError(
            f"benchmark {str(path)!r}: benchmark_column must be one of {', '.join(columns)}, "
            f"got {column}"
        )
    return column
