"""From YAML and the command line to the typed tree, and what tells two configurations apart."""

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from darts_gdas.config.chain import ChainSpace
from darts_gdas.config.network import CustomSpace, DartsSpace, NasBench201Space, PublishedSpace
from darts_gdas.config.pressure import CostConfig
from darts_gdas.config.progressive import total_epochs
from darts_gdas.config.run import RunConfig
from darts_gdas.config.score import ScoreConfig
from darts_gdas.config.train import TrainConfig
from darts_gdas.config.tree import SearchConfig
from darts_gdas.runtime.datasets import Cifar10, Cifar100, Digits, ImageFolder
from darts_gdas.runtime.optim import Cosine, Decay
from darts_gdas.scoring.warm_start import NoWarmStart, NtkWarmStart, TeNasWarmStart
from darts_gdas.search import (
    AdversarialPerturbation,
    ArgMax,
    BestOfSamples,
    BetaDecay,
    Concrete,
    Dirichlet,
    DirichletKL,
    FirstOrder,
    GumbelHard,
    PerturbationSelection,
    RandomPerturbation,
    Sigmoid,
    Softmax,
    Uniform,
    Unrolled,
    UnrolledExact,
    ZeroOne,
)
from darts_gdas.tasks.staged import Stage

EXEMPT = (
    "run_dir",
    "outputs",
    "resume",
    "device",
    "threads",
    "benchmark",
    "benchmark_column",
    "genotype",
    "checkpoint_cells",
    "compile",
    "dataset.root",
    "dataset.download",
    "rank_timeout_minutes",
    "on_nonfinite",
    "max_skips",
    "keep_checkpoints",
    "checkpoint_every",
    "on_save_error",
    "verbosity",
)
"""Settings that a resumed run may change: they do not change what is computed."""


AnyConfig = RunConfig | ScoreConfig
Config = TypeVar("Config", bound=AnyConfig)

GROUPS: dict[str, dict[str, type]] = {
    "space": {
        "darts": DartsSpace,
        "nasbench201": NasBench201Space,
        "published_schema": PublishedSpace,
        "chain_schema": ChainSpace,
        "custom": CustomSpace,
    },
    "relaxation": {
        "softmax": Softmax,
        "gumbel_hard": GumbelHard,
        "concrete": Concrete,
        "sigmoid": Sigmoid,
        "dirichlet": Dirichlet,
        "uniform": Uniform,
    },
    "hypergradient": {
        "first_order": FirstOrder,
        "unrolled": Unrolled,
        "unrolled_exact": UnrolledExact,
    },
    "discretizer": {
        "argmax": ArgMax,
        "perturbation": PerturbationSelection,
        "best_of_samples": BestOfSamples,
    },
    "penalties": {
        "zero_one": ZeroOne,
        "beta_decay": BetaDecay,
        "dirichlet_kl": DirichletKL,
        "cost": CostConfig,
    },
    "perturbation": {"random": RandomPerturbation, "adversarial": AdversarialPerturbation},
    "warm_start": {"none": NoWarmStart, "ntk": NtkWarmStart, "te_nas": TeNasWarmStart},
    "optimizer/schedule": {"cosine": Cosine, "decay": Decay},
    "dataset": {
        "digits_schema": Digits,
        "cifar10_schema": Cifar10,
        "cifar100_schema": Cifar100,
        "image_folder_schema": ImageFolder,
    },
}
"""Choices that need no YAML, by group: `relaxation=softmax` on the command line."""

SEVERAL = ("penalties",)
"""Groups of which several can be chosen: `penalties=[cost,beta_decay]`."""


CHOICES = ("method", "experiment")
"""Groups of `conf/` that have no type of their own: files of settings."""

ADDABLE = ("experiment",)
"""Groups that `+GROUP=NAME` may add."""


def register() -> None:
    """Tell hydra the schemas; call before `hydra.main`."""
    OmegaConf.register_new_resolver("stage_epochs", total_epochs, replace=True)
    store = ConfigStore.instance().store
    store(name="search_schema", node=SearchConfig)
    store(name="train_schema", node=TrainConfig)
    store(name="score_schema", node=ScoreConfig)
    for group, nodes in GROUPS.items():
        for name, node in nodes.items():
            package = f"{group}.{name}" if group in SEVERAL else None
            store(group=group, name=name, node=node, package=package)


def typed(cfg: DictConfig, kind: type[Config]) -> Config:
    """The composed configuration as dataclasses, every value checked.

    Raises:
        ValueError: If a value has no meaning.
        omegaconf.errors.OmegaConfBaseException: If a value is missing.
    """
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, kind)
    return config


def task_overrides() -> list[str]:
    """What the user said on the command line of this process.

    Raises:
        ValueError: If it adds or removes a setting, which composition itself would allow.
    """
    overrides = list(HydraConfig.get().overrides.task)
    for override in overrides:
        key = override.split("=")[0]
        if key.startswith("~"):
            raise ValueError(f"{override!r}: a setting cannot be removed; set another value")
        if key.startswith("+") and key.lstrip("+") not in ADDABLE:
            raise ValueError(f"Could not override {key.lstrip('+')!r}")
    return overrides


def sweep_folder() -> str | None:
    """The folder of this job in a sweep (`--multirun`); None in a single run."""
    hydra = HydraConfig.get()
    return str(hydra.runtime.output_dir) if hydra.mode == RunMode.MULTIRUN else None


def sweeps_here() -> bool:
    """Whether this process runs the jobs of a sweep one after the other, by itself."""
    hydra = HydraConfig.get()
    by_itself = str(hydra.launcher.get("_target_", "")).endswith("BasicLauncher")
    return hydra.mode == RunMode.MULTIRUN and by_itself


def sweep_root() -> str:
    """The folder of the whole sweep that this job belongs to."""
    return str(HydraConfig.get().sweep.dir)


def local_job() -> int | None:
    """Number of this job of a sweep over this machine's GPUs (`hydra/launcher=local_processes`).

    None in anything else, and where the sweep is to use no GPU.

    Raises:
        ValueError: If more jobs may run at once than there are GPUs.
    """
    hydra = HydraConfig.get()
    if not str(hydra.launcher.get("_target_", "")).endswith("LocalLauncher"):
        return None
    num_gpus, at_once = hydra.launcher.gpus_per_node, hydra.sweeper.get("max_batch_size")
    if not num_gpus:
        return None
    if at_once is None or at_once > num_gpus:
        raise ValueError(
            f"hydra.launcher.gpus_per_node={num_gpus}: each job takes a GPU for itself; pass "
            f"hydra.sweeper.max_batch_size={num_gpus}, so that the others wait"
        )
    return int(hydra.job.num)


def recompose(overrides: Sequence[str]) -> DictConfig:
    """Compose this process's root configuration again with other overrides."""
    name = HydraConfig.get().job.config_name
    assert name is not None
    return compose(name, overrides=list(overrides))


def to_yaml(cfg: DictConfig) -> str:
    """The resolved configuration as YAML."""
    return OmegaConf.to_yaml(cfg, resolve=True)


def fingerprint(config: AnyConfig, **extra: Any) -> str:
    """Everything the results depend on, as JSON text.

    Args:
        config: The typed configuration.
        extra: What is not in it: the data's digest, a genotype's content.
    """
    settings = _settings(config) | extra
    kept = {key: value for key, value in settings.items() if key not in EXEMPT}
    return json.dumps(kept, sort_keys=True)


def _settings(value: Any, name: str = "") -> dict[str, Any]:
    """Values by dotted name; a strategy's own name stands for which one it is."""
    if isinstance(value, Enum):
        return {name: value.name}
    if isinstance(value, list) and any(is_dataclass(item) for item in value):
        parts = [_settings(item, f"{name}.{i}") for i, item in enumerate(value)]
        return {key: setting for part in parts for key, setting in part.items()}
    if not is_dataclass(value):
        return {name: value}
    settings: dict[str, Any] = {name: type(value).__name__} if name else {}
    for part in fields(value):
        settings |= _settings(
            getattr(value, part.name), f"{name}.{part.name}" if name else part.name
        )
    return settings


def known_keys() -> list[str]:
    """All settings by their dotted names, to suggest one for a misspelt key."""
    keys = {
        *_settings(SearchConfig(space=DartsSpace())),
        *_settings(TrainConfig()),
        *_settings(ScoreConfig()),
    }
    for group, nodes in GROUPS.items():
        for name, node in nodes.items():
            package = f"{group}.{name}" if group in SEVERAL else group.replace("/", ".")
            keys |= set(_settings(node(), package))
    keys |= {*GROUPS, *CHOICES}
    keys |= {f"stages.{i}.{part.name}" for i in range(3) for part in fields(Stage)}
    return sorted(keys)
