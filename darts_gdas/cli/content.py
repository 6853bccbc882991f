"""What a run was made of, by content: data that lie elsewhere, and a cell that a file names."""

import contextlib
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.runtime.files import RunFolder, WriteError, traces, write_text
from darts_gdas.space import Genotype

CONTENT = "content.json"
DATA, CELL, FILES = "data", "genotype_content", "files"


def write_content(folder: RunFolder, cfg: DictConfig, content: dict[str, str]) -> None:
    """Keep what a run is made of in its folder; without it a finished run cannot be compared.

    Args:
        folder: Of the run.
        cfg: As composed.
        content: Digests by name, as the run's fingerprint holds them.
    """
    kept = {**content, FILES: _traces(configuration.to_values(cfg))}
    with contextlib.suppress(WriteError):  # a full disc is told where it matters
        write_text(folder.path / CONTENT, json.dumps(kept, indent=2) + "\n")


def may_be_other(folder: RunFolder, cfg: DictConfig) -> bool:
    """Whether a finished run's data have to be read again to know that they are the same.

    Names, sizes and times of files are looked at, which takes no time to speak of. Data without
    files, or whose files are gone, and runs that have not kept what they are made of, are taken
    as they are.

    Raises:
        ValueError: If the file or the run that is named for the cell holds another cell by now.
    """
    values, kept, cell = configuration.to_values(cfg), _read(folder), None
    with contextlib.suppress(ValueError):  # gone by now
        cell = values.get("genotype") and Genotype.load(values["genotype"]).to_json()
    if cell is not None:
        _check(folder, CELL, cell)
    was, now = kept.get(FILES, {}), _traces(values)
    return any(was[name] != now[name] for name in was.keys() & now.keys())


def check_content(folder: RunFolder, cfg: DictConfig, content: dict[str, str]) -> None:
    """Raise a `ValueError` where a finished run was made of other data than are there now.

    Args:
        folder: Of the run.
        cfg: As composed.
        content: As of `write_content`, of what is there now.
    """
    _check(folder, DATA, content[DATA])
    write_content(folder, cfg, _read(folder) | {DATA: content[DATA]})  # files as they are now


def _check(folder: RunFolder, name: str, now: str) -> None:
    if _read(folder).get(name, now) != now:
        what = {DATA: "other data", CELL: "another cell"}[name]
        raise ValueError(
            f"{folder.path} has finished with {what} than what lies there now under the same "
            "name, so its results are not those of this command. Pass another folder"
        )


def _read(folder: RunFolder) -> dict[str, Any]:
    """What is kept; nothing where it cannot be read."""
    kept = None
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads((folder.path / CONTENT).read_text(encoding="utf-8"))
    return kept if isinstance(kept, dict) and isinstance(kept.get(FILES), dict) else {}


def _traces(values: dict[str, Any]) -> dict[str, str]:
    """Of the files that the data set names, by the setting that does."""
    said = values.get("dataset") or {}
    paths = {name: Path(value) for name, value in said.items() if isinstance(value, str) and value}
    return {name: traces(path) for name, path in paths.items() if path.exists()}
