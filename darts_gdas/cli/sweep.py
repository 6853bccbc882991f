"""A sweep: its jobs are checked before the first, its runs compared after the last."""

import json
from enum import Enum
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf, read_write

from darts_gdas import config as configuration
from darts_gdas.cli.compare import compare
from darts_gdas.cli.plan import OBJECTIVES, check_objective
from darts_gdas.cli.wording import one_line
from darts_gdas.config.objective import directions_of, names_of
from darts_gdas.report.comparison_page import write_comparison
from darts_gdas.report.record import find_records
from darts_gdas.report.run_page import PAGE
from darts_gdas.runtime.files import new_folder
from darts_gdas.runtime.terminal import complain
from darts_gdas.runtime.usage import FAULT, USAGE_ERROR

SCORE = "score"

SENSES = {
    "direction": {"minimize": "minimize", "maximize": "maximize"},
    "optim.maximize": {"minimize": "false", "maximize": "true"},
    "ax_config.experiment.minimize": {"minimize": "true", "maximize": "false"},
}
"""Settings by which the sweepers of Optuna, Nevergrad and Ax are told which way is better."""


class Comparison(Callback):
    """Hydra's callback that checks the jobs of a sweep, and compares the runs when all have ended.

    A run that had a fault has said so and ended alone; the sweep then ends with the same status.
    """

    def __init__(self) -> None:
        self.num_jobs = 0
        self.failed: list[str] = []
        self.is_refused = False

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Compose every job, so that a wrong value ends the sweep before it runs; claim a folder.

        Two sweeps that begin in the same second thereby have two folders.
        """
        try:
            _check_jobs(config)
            _claim_folder(config)
        except Exception as error:  # hydra makes a warning of all but an exit
            complain(one_line(error))
            self.is_refused = True
            raise SystemExit(USAGE_ERROR) from None

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Note how a run of this process ended: one without a result, or an error, has failed."""
        self.num_jobs += 1
        if job_return.status is not JobStatus.COMPLETED or job_return.return_value is None:
            self.failed.append(str(config.hydra.runtime.output_dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write tables and a page into the sweep's folder; the runs stand in any case."""
        if self.is_refused:  # hydra 1.4 comes here all the same
            return
        folder = Path(config.hydra.sweep.dir)
        try:
            is_ranking = config.hydra.job.config_name == SCORE
            if not is_ranking:
                compare([folder], folder)
            write_comparison(find_records(folder), folder / PAGE)  # unfinished runs, too
            if is_ranking:
                print(f"page     {folder / PAGE}")
        except (ValueError, OSError) as error:
            complain(f"the runs are not compared: {error}", "warning")
        if self.failed:
            number = f"{len(self.failed)} of {self.num_jobs} runs failed"
            complain(f"{number}: {', '.join(self.failed)}")
            raise SystemExit(FAULT)


def _check_jobs(config: DictConfig) -> None:
    """Raise a `ValueError` that names the first job with a wrong value.

    The jobs of other sweepers than hydra's own are not known yet; what they optimise is.
    """
    hydra = config.hydra
    if not str(hydra.sweeper.get("_target_", "")).endswith("BasicSweeper"):
        _check_objectives(config)
        return
    (jobs,) = BasicSweeper.split_arguments(_overrides(config), None)
    for number, overrides in enumerate(jobs):
        try:
            configuration.check(hydra.job.config_name, overrides)
        except Exception as error:
            said = " ".join(overrides)
            raise ValueError(f"job {number} ({said}): {one_line(error)}") from None


def _overrides(config: DictConfig) -> list[Override]:
    """What the command line and the sweeper's own file set, some of it to several values."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    return OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task])


def _check_objectives(config: DictConfig) -> None:
    """Raise a `ValueError` unless all jobs have one objective, and the sweeper its direction."""
    name, sweeper = config.hydra.job.config_name, config.hydra.sweeper
    if name not in OBJECTIVES:
        raise ValueError(f"{name} has no objective that a sweeper could optimise")
    check_objective(_overrides(config))
    value = config.get("objective")
    names = names_of(list(value) if isinstance(value, ListConfig) else value, OBJECTIVES[name])
    wanted = directions_of(names, OBJECTIVES[name])
    for setting, is_better in SENSES.items():
        said = OmegaConf.select(sweeper, setting)
        told = [_plain(one) for one in (said if isinstance(said, ListConfig) else [said])]
        allowed = [is_better[direction] for direction in wanted]
        if said is not None and told != allowed:
            right = f"[{','.join(allowed)}]" if len(names) > 1 else allowed[0]
            raise ValueError(
                f"objective={','.join(names)} needs hydra.sweeper.{setting}={right}, or the worst "
                f"would be taken for the best; got {','.join(told)}"
            )


def _plain(value: object) -> str:
    """A value of a sweeper as it is typed."""
    return value.name if isinstance(value, Enum) else str(value).lower()


def _claim_folder(config: DictConfig) -> None:
    hydra = config.hydra
    if any(item.startswith("hydra.sweep.dir=") for item in hydra.overrides.hydra):
        return
    path = new_folder(Path(hydra.sweep.dir))
    with read_write(hydra):
        hydra.sweep.dir = str(path)
        hydra.overrides.hydra.append(f"hydra.sweep.dir={json.dumps(str(path))}")  # for its jobs
