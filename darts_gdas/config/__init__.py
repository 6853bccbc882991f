"""The typed configuration: what the YAML under `conf/` and the command line may say."""

from darts_gdas.config.composition import (
    ADDABLE,
    GROUPS,
    AnyConfig,
    check,
    conf_folder,
    differences,
    fingerprint,
    known_keys,
    local_job,
    optimises,
    program,
    recompose,
    register,
    said_names,
    sweep_folder,
    sweep_root,
    sweeps_here,
    task_overrides,
    to_values,
    to_yaml,
    told_changes,
    typed,
)
from darts_gdas.config.run import RunConfig
from darts_gdas.config.score import ScoreConfig
from darts_gdas.config.search import SearchConfig
from darts_gdas.config.train import TrainConfig

__all__ = [
    "ADDABLE",
    "GROUPS",
    "AnyConfig",
    "RunConfig",
    "ScoreConfig",
    "SearchConfig",
    "TrainConfig",
    "check",
    "conf_folder",
    "differences",
    "fingerprint",
    "known_keys",
    "local_job",
    "optimises",
    "program",
    "recompose",
    "register",
    "said_names",
    "sweep_folder",
    "sweep_root",
    "sweeps_here",
    "task_overrides",
    "to_values",
    "to_yaml",
    "told_changes",
    "typed",
]
