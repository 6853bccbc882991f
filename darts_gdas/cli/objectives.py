"""What a program returns to hydra, whose sweepers may optimise it."""

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.cli.errors import JobFailed
from darts_gdas.config.objective import Objective, values_of
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.terminal import complain

Returned = float | tuple[float, ...] | None


def objectives(cfg: DictConfig, known: Mapping[str, Objective]) -> Returned:
    """The objectives of a job that has ended, now or before; read from its closing figures.

    Args:
        cfg: As composed.
        known: The objectives that its program has.

    Returns:
        NaN for what is not there, and in a single run, whose value nobody asks for.

    Raises:
        JobFailed: If a sweeper asks for what the run has not measured.
    """
    folder = configuration.sweep_folder()
    if folder is None:
        return math.nan
    result = {}
    with contextlib.suppress(OSError, ValueError):  # not saved, which has been told
        path = RunFolder(Path(cfg.run_dir or folder)).result
        result = json.loads(path.read_text(encoding="utf-8"))
    value = configuration.to_values(cfg)["objective"]
    found = values_of(value, known, result)
    numbers = found if isinstance(found, tuple) else (found,)
    if configuration.optimises() and any(map(math.isnan, numbers)):
        complain(f"{folder}: objective={value} is not among what this run has measured")
        raise JobFailed(f"{folder} has no objective")
    return found
