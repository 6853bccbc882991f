"""Runs from Python and from notebooks: what `search.py` and `train.py` do, with a value at the end.

from darts_gdas.api import search

found = search({"method": "gdas", "epochs": 20})
found  # in a notebook: the page of the run
"""

import contextlib
import html
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from darts_gdas import config as configuration
from darts_gdas.cli.plan import check_said_once
from darts_gdas.cli.programs import run_search, run_train
from darts_gdas.cli.wording import one_line
from darts_gdas.report.record import read_record
from darts_gdas.report.run_page import run_page
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.launch import setting
from darts_gdas.runtime.process import left_as_found
from darts_gdas.runtime.usage import INTERRUPTED
from darts_gdas.space import Genotype

__all__ = ["Result", "search", "train"]

PROGRAMS = {"search": run_search, "train": run_train}


@dataclass(frozen=True)
class Result:
    """A run that has ended.

    Attributes:
        folder: Where all of it lies.
        genotype: The cell that was found, or that was trained.
        metrics: The figures of its last epoch, such as `validation/accuracy` or `test/accuracy`.
    """

    folder: Path
    genotype: Genotype = field(repr=False)
    metrics: Mapping[str, float]

    @classmethod
    def of(cls, folder: Path | str) -> "Result":
        """The result of a run that has ended before.

        Raises:
            ValueError: If there is none in the folder.
        """
        path = RunFolder(Path(folder)).result
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            return cls(Path(folder).absolute(), Genotype.load(folder), result["metrics"])
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{str(folder)!r} holds no result of a run: {error}") from None

    def _repr_html_(self) -> str:
        """The page of the run, inside of a notebook; the page can reach nothing of the notebook."""
        page = html.escape(run_page(read_record(self.folder)), quote=True)
        style = "width: 100%; height: 40em; border: 1px solid #888"
        return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{page}"></iframe>'


def search(settings: Mapping[str, Any] | None = None) -> Result:
    """Search for a cell, in this process.

    It says on stderr what `search.py` says. Ctrl-C, or a notebook's stop, saves the state and is
    a `KeyboardInterrupt`; with the same `run_dir` and `resume: "auto"` the search goes on. The
    process is left as it was found: random generators, environment, logging, warnings, signals.

    Args:
        settings: As on the command line: `{"method": "darts", "optimizer.lr": 0.1}`, or nested,
            `{"optimizer": {"lr": 0.1}}`, as a mapping or an OmegaConf configuration. A list, or
            what can be one, is a choice of several, such as `{"penalties": ["cost"]}`; a `Genotype`
            may be a value, and a `Path` is taken as it is.

    Raises:
        ValueError: If a setting or a value is wrong, in the words of `search.py`.
        RuntimeError: If the run had a fault, or this is not the main thread.
        SystemExit: With the state saved, after another signal that ends a run, such as SIGTERM.
    """
    return _run("search", settings or {})


def train(settings: Mapping[str, Any]) -> Result:
    """Train a cell, in this process, as `search` searches: `train({"genotype": found.folder})`.

    Raises:
        ValueError: As there.
        RuntimeError: As there.
        SystemExit: As there.
    """
    return _run("train", settings)


def _run(program: str, settings: Mapping[str, Any]) -> Result:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a run belongs in the main thread, where it can be stopped")
    if isinstance(settings, DictConfig):
        settings = OmegaConf.to_container(settings, resolve=True)  # type: ignore[assignment]
    if not isinstance(settings, Mapping):
        raise ValueError(f"settings must be a mapping of names to values, got {settings!r}")
    if own := [name for name in settings if str(name).partition(".")[0] == "hydra"]:
        raise ValueError(f"{own[0]!r} is for the command line, which can run several runs")
    if settings.get("resume", "auto") not in ("auto", "none"):
        raise ValueError("resume must be auto or none here; name the run's folder in run_dir")
    overrides = list(_overrides(settings))
    check_said_once(overrides)
    with left_as_found(), configuration.composing():
        try:
            if is_new := not settings.get("run_dir"):
                root = Path(compose(program, overrides).outputs) / program
                overrides.append(setting("run_dir", RunFolder.new(root).path))
            cfg = compose(program, overrides, return_hydra_config=True)
            folder = Path(cfg.run_dir)
        except Exception as error:  # whatever hydra says of a wrong setting
            raise ValueError(one_line(error)) from None
        HydraConfig.instance().set_config(cfg)
        OmegaConf.set_struct(cfg, False)
        del cfg["hydra"]
        OmegaConf.set_struct(cfg, True)
        try:
            PROGRAMS[program](cfg)
        except SystemExit as stop:
            if is_new:
                with contextlib.suppress(OSError):
                    folder.rmdir()  # which only goes where nothing was begun
            raise _error(stop, folder) from stop.__context__
    return Result.of(folder)


def _error(stop: SystemExit, folder: Path) -> BaseException:
    """What a program has told on stderr, as an exception."""
    if stop.code == INTERRUPTED:
        return KeyboardInterrupt(f"stopped; {folder} is kept")
    if isinstance(stop.code, int) and stop.code > INTERRUPTED:
        return stop
    told = stop.__context__
    if isinstance(told, ValueError | OSError):
        return ValueError(one_line(told))
    return RuntimeError(f"the run in {folder} had a fault: {told}")


def _overrides(settings: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Settings as on the command line; those in a mapping have its name before theirs."""
    for name, given in settings.items():
        value = _plain(given)
        if isinstance(value, Mapping) and value:
            yield from _overrides(value, f"{within}{name}.")
        elif isinstance(value, list | tuple) and f"{within}{name}" in configuration.CHOICES:
            raise ValueError(f"{name!r} takes one name, no list, got {_written(value)}")
        elif isinstance(value, list | tuple | Mapping):
            yield f"{within}{name}={_written(value)}"
        else:
            yield setting(f"{within}{name}", value)


def _written(given: Any) -> str:
    """A value within a list, as hydra reads it."""
    value = _plain(given)
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{_written(item)}' for name, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    return setting("", value)[1:]


def _plain(value: Any) -> Any:
    """A value of Python's own: numbers and lists for arrays, text for a cell."""
    if isinstance(value, Genotype):
        return json.dumps(json.loads(value.to_json()))  # in one line
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True)
    if isinstance(value, np.generic | np.ndarray | torch.Tensor):
        return value.tolist()
    if isinstance(value, Set):
        return sorted(value, key=lambda item: (isinstance(item, str), item))
    is_whole = isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable)
    return value if is_whole else list(value)
