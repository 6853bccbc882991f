"""All that a run folder tells, read so that a half-written or damaged folder tells the rest."""

import csv
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from darts_gdas.report.alphas import Moves, moves_of
from darts_gdas.report.numbers import is_number
from darts_gdas.report.runs import folders_with, read_file
from darts_gdas.space import Genotype

PROGRAMS = ("search", "train", "score")
MARKS = ("metrics.jsonl", "result.json", "overrides.yaml")
"""Files that a run folder has at least one of."""

NEEDED = {
    "metrics.jsonl": "no curves",
    "config.yaml": "no settings",
    "overrides.yaml": "no command to repeat the run",
}
"""Files that every run leaves, and what a page lacks without them."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Record:
    """What is left of a run, finished or not.

    Attributes:
        folder: Where it lies.
        kind: "search", "train" or "score".
        lines: The lines of `metrics.jsonl`, in order of their epochs.
        config: The whole configuration; empty where it is not known.
        overrides: What the user set; None where it is not known.
        result: The closing figures; empty before the end.
        genotype: The cell that is searched (as it stands) or retrained.
        damage: What could not be read, a sentence each.
        scores: Columns of `scores.csv`.
    """

    folder: Path
    kind: str
    lines: Sequence[Mapping[str, Any]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[str] | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    genotype: Genotype | None = None
    damage: Sequence[str] = ()
    scores: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def last(self) -> Mapping[str, Any]:
        """The newest line."""
        return self.lines[-1] if self.lines else {}

    def curve(self, name: str) -> list[Point]:
        """(epoch, value) wherever a metric was measured; epochs count from 1."""
        pairs = ((line["epoch"] + 1, line.get(name)) for line in self.lines)
        return [(float(epoch), float(value)) for epoch, value in pairs if is_number(value)]

    @functools.cached_property
    def moves(self) -> Mapping[str, Moves]:
        """How the alphas moved, by kind of cell; empty for a run without any."""
        return moves_of(self.lines) if self.kind == "search" else {}

    @property
    def missing(self) -> list[str]:
        """Files that the run should have left and did not, and what a page lacks without them."""
        needed = {"scores.csv": "no cells"} if self.kind == "score" else NEEDED
        if self.config.get("epochs") == 0:  # nothing was trained
            needed = {name: lack for name, lack in needed.items() if name != "metrics.jsonl"}
        due = [name for name in needed if self.result or name in ("config.yaml", "overrides.yaml")]
        gone = [name for name in due if not (self.folder / name).is_file()]
        return [f"{name} is missing: this page has {needed[name]}" for name in gone]

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, in order of their first appearance."""
        names = [n for line in self.lines for n, v in line.items() if "/" in n and is_number(v)]
        return list(dict.fromkeys(names))

    @property
    def seconds(self) -> float | None:
        """Wall time of the run so far."""
        if is_number(self.result.get("seconds")):
            return float(self.result["seconds"])
        curve = self.curve("seconds")
        return sum(value for _, value in curve) if curve else None


def is_run(folder: Path) -> bool:
    """Whether a folder holds anything of a run."""
    return any((folder / name).is_file() for name in MARKS)


def find_records(path: Path) -> list[Record]:
    """The runs at a path or below it, in order of their names.

    Raises:
        ValueError: If there is none, or the path does not exist.
    """
    folders = set().union(*folders_with(path, *MARKS))
    return [read_record(folder) for folder in sorted(folders, key=_in_order)]


def _in_order(folder: Path) -> list[tuple[int, str]]:
    """Numbered folders (the jobs of a sweep) by their numbers, others by their names."""
    return [(int(part) if part.isdecimal() else -1, part) for part in folder.parts]


def read_record(folder: Path, *, result: Mapping[str, Any] | None = None) -> Record:
    """Whatever a folder tells; `metrics.jsonl` alone is enough.

    Args:
        folder: A run's folder.
        result: The closing figures of a run that ends now, in place of `result.json`.

    Raises:
        ValueError: If it holds nothing of a run.
    """
    if not is_run(folder):
        raise ValueError(f"{str(folder)!r} is no run folder: it has no metrics.jsonl")
    damage: list[str] = []
    lines = _lines(folder / "metrics.jsonl", damage)
    config = _parsed(folder / "config.yaml", yaml.safe_load, dict, damage)
    overrides = _parsed(folder / "overrides.yaml", yaml.safe_load, list, damage)
    if result is None:
        result = _parsed(folder / "result.json", json.loads, dict, damage)
    config, result = config or {}, result or {}
    said = None if overrides is None else [str(item) for item in overrides]
    genotype = _genotype(folder, lines, damage)
    kind = str(result.get("kind"))
    if kind not in PROGRAMS:
        kind = _kind(lines[-1] if lines else {}, config)
    scores = _columns(folder / "scores.csv", damage)
    return Record(folder, kind, lines, config, said, result, genotype, damage, scores)


def _kind(last: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    if "test/accuracy" in last or "regularization" in config:
        return "train"
    return "score" if "repeats" in config else "search"


def _lines(path: Path, damage: list[str]) -> list[Mapping[str, Any]]:
    """Lines by epoch; of two of an epoch the later one, of a cut one nothing."""
    found: dict[int, Mapping[str, Any]] = {}
    if not path.is_file():
        return []
    bad = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            data = json.loads(line)
            epoch = int(data["epoch"])
            found[epoch] = {**data, "epoch": epoch}
        except (ArithmeticError, KeyError, TypeError, ValueError):
            bad += 1
    if bad:
        damage.append(f"{path.name}: {bad} line{'s' * (bad > 1)} cannot be read")
    return [found[epoch] for epoch in sorted(found)]


def _parsed(path: Path, parse: Any, kind: type, damage: list[str]) -> Any:
    if not path.is_file():
        return None
    try:
        return read_file(path, parse, kind)
    except ValueError:
        damage.append(f"{path.name} cannot be read")
        return None


def _genotype(
    folder: Path, lines: Sequence[Mapping[str, Any]], damage: list[str]
) -> Genotype | None:
    """The answer if there is one, else that of the last epoch."""
    path = folder / "genotype.json"
    try:
        if path.is_file():
            return Genotype.from_json(path.read_text(encoding="utf-8"))
        if lines and "genotype" in lines[-1]:
            return Genotype.from_json(json.dumps(lines[-1]["genotype"]))
    except (OSError, ValueError):
        damage.append("the genotype cannot be read")
    return None


def _columns(path: Path, damage: list[str]) -> dict[str, list[str]]:
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = [*csv.reader(file)] or [[]]
    if any(len(row) != len(header) for row in rows):
        damage.append(f"{path.name} cannot be read")
        return {}
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}
