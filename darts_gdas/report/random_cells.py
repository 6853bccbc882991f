"""What chance reaches: retrainings of random cells that lie beside a retraining."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from darts_gdas.report.numbers import is_number
from darts_gdas.report.record import Record
from darts_gdas.report.runs import flat, matters, method_of, read_file

DRAWN = "random"
"""The method that draws a cell and asks nothing."""


def random_accuracies(record: Record) -> list[float]:
    """Test accuracies, in [0, 1], of cells that `method=random` drew and that were trained alike.

    Looked for in the folders beside the run's own, and those below them, as a sweep leaves them.
    They count where their settings and data are those of the run; the seed may be another.
    """
    here, beside = _settings(record.config), record.folder.resolve().parent
    paths = sorted([*beside.glob("*/result.json"), *beside.glob("*/*/result.json")])
    found = (_accuracy(p, here) for p in paths if p.parent != record.folder.resolve())
    return [accuracy for accuracy in found if accuracy is not None]


def _accuracy(path: Path, settings: Mapping[str, Any]) -> float | None:
    try:
        result = read_file(path, json.loads, dict)
        accuracy = (result.get("test") or {}).get("accuracy")
        drawn = result.get("kind") == "train" and method_of(str(result["genotype_source"])) == DRAWN
        if drawn and is_number(accuracy):
            config = read_file(path.with_name("config.yaml"), yaml.safe_load, dict)
            return accuracy if _settings(config) == settings else None
    except (AttributeError, KeyError, ValueError):
        pass  # somebody else's file, or a damaged one: nothing to compare with
    return None


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What two runs on the same data have in common that differ in cell and seed alone."""
    return {k: v for k, v in flat(config) if k == "dataset.root" or (k != "seed" and matters(k))}
