"""What chance reaches: retrainings of random cells that lie beside a retraining."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from darts_gdas.report.numbers import is_number
from darts_gdas.report.record import Record
from darts_gdas.report.runs import flat, matters, method_of, read_file
from darts_gdas.report.source import search_folder
from darts_gdas.space import Genotype
from darts_gdas.space.networks import network_key

DRAWN = "random"
"""The method that draws a cell and asks nothing."""


def random_accuracies(record: Record) -> list[float]:
    """Test accuracies, in [0, 1], of cells that `method=random` drew and that were trained alike.

    Looked for in the folders beside the run's own, and those below them, as a sweep leaves them.
    They count where settings and images are those of the run, and the space that of its cell's
    search; where that is not known, where they are of the form of its cell. Cells that are the best
    of several (`discretizer.count` above 1) are chosen, so they do not count.

    Returns:
        One per network, the mean over its retrainings, which differ in their seeds; a drawn cell's
        own other retrainings are left out.
    """
    here = record.folder.resolve()
    own = _retraining(here)
    if own is None:
        return []
    paths = [*here.parent.glob("*/result.json"), *here.parent.glob("*/*/result.json")]
    others = (_retraining(path.parent) for path in sorted(paths) if path.parent != here)
    found: dict[str, list[float]] = {}
    for other in others:
        if other is not None and other.is_drawn and other.is_like(own):
            found.setdefault(other.network, []).append(other.accuracy)
    if own.is_drawn:
        found.pop(own.network, None)
    return [statistics.fmean(accuracies) for accuracies in found.values()]


@dataclass(frozen=True)
class _Retraining:
    """A finished retraining.

    Attributes:
        accuracy: On the test set.
        settings: All but the seed that its result depends on.
        data: The digest of its images.
        genotype: Its cell.
        search: The configuration of the search that found the cell; empty if it is not known.
        method: That search's.
    """

    accuracy: float
    settings: Mapping[str, Any]
    data: str
    genotype: Genotype
    search: Mapping[str, Any]
    method: str

    @property
    def is_drawn(self) -> bool:
        """Whether the cell is a random one: the only one drawn, with none to be better than."""
        return self.method == DRAWN and self.search.get("discretizer") == {"count": 1}

    @property
    def network(self) -> str:
        """The same text for all cells that are one network."""
        return network_key(self.genotype)

    def is_like(self, other: "_Retraining") -> bool:
        """Whether the cells are of one space, and trained alike on the same images."""
        spaces = [each.search.get("space") for each in (self, other)]
        if None in spaces:
            spaces = [_form(each.genotype) for each in (self, other)]
        alike = [(each.settings, each.data) for each in (self, other)]
        return spaces[0] == spaces[1] and alike[0] == alike[1]


def _retraining(folder: Path) -> _Retraining | None:
    """None where a folder holds something else, or too little to be compared."""
    try:
        result = _json(folder / "result.json")
        accuracy = (result.get("test") or {}).get("accuracy")
        if result.get("kind") != "train" or not is_number(accuracy):
            return None
        content, source = _json(folder / "content.json"), str(result["genotype_source"])
        genotype, found = Genotype.from_json(content["genotype_content"]), search_folder(source)
        config = _yaml(folder / "config.yaml")
        search = {} if found is None else _yaml(found / "config.yaml")
        settings = {k: v for k, v in flat(config) if k != "seed" and matters(k)}
        method = method_of(source)
        return _Retraining(accuracy, settings, content["data"], genotype, search, method)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None  # somebody else's file, or a damaged one: nothing to compare with


def _form(genotype: Genotype) -> dict[str, Any]:
    """How large the cells are, by kind, apart from their operations."""
    return {
        kind: (cell.num_inputs, cell.output, [len(edges) for edges in cell.nodes])
        for kind, cell in genotype.cells.items()
    }


def _json(path: Path) -> dict[str, Any]:
    return read_file(path, json.loads, dict)


def _yaml(path: Path) -> dict[str, Any]:
    return read_file(path, yaml.safe_load, dict)
