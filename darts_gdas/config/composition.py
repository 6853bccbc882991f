"""From YAML and the command line to the typed tree, and what tells two configurations apart."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf

from darts_gdas.config.groups import GROUPS, SEVERAL, store_part
from darts_gdas.config.run import RunConfig
from darts_gdas.config.score import ScoreConfig
from darts_gdas.config.search import SearchConfig
from darts_gdas.config.stages import total_epochs
from darts_gdas.config.train import TrainConfig
from darts_gdas.report.runs import EXEMPT
from darts_gdas.runtime.launch import without_references
from darts_gdas.runtime.plugins import load_plugins

UNSAID = {
    "penalties": "Penalties",
    "penalties.zero_one": None,
    "penalties.beta_decay": None,
    "penalties.dirichlet_kl": None,
    "penalties.cost": None,
}
"""What checkpoints of all versions say of penalties that were not taken."""

RENAMED = {"Cost": "CostConfig"}
"""Classes by the name that checkpoints know them by."""

ASKED = ("benchmark", "benchmark_column", "dataset.root", "genotype")
"""Names of what a run is about, whose content tells runs apart once it has been read."""

MANNER = tuple(name for name in EXEMPT if name not in ASKED)
"""Settings that only say how and where a run takes place."""

AnyConfig = RunConfig | ScoreConfig
Config = TypeVar("Config", bound=AnyConfig)

CHOICES = ("method", "experiment")
"""Groups of `conf/` that have no type of their own: files of settings."""

ADDABLE = ("experiment",)
"""Groups that `+GROUP=NAME` may add."""


def conf_folder() -> Path:
    """`conf/`: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def register() -> None:
    """Tell hydra the schemas, and load the parts of other packages; call before `hydra.main`."""
    OmegaConf.register_new_resolver("stage_epochs", total_epochs, replace=True)
    store_part(None, "search_schema", SearchConfig)
    store_part(None, "train_schema", TrainConfig)
    store_part(None, "score_schema", ScoreConfig)
    for group, nodes in GROUPS.items():
        for name, node in nodes.items():
            store_part(group, name, node)
    load_plugins()


@contextlib.contextmanager
def composing() -> Iterator[None]:
    """Inside, `hydra.compose` knows the programs of `conf/` and the parts of other packages.

    Afterwards hydra holds again what it held of a caller, whose program may be hydra's too.

    Raises:
        ValueError: If such a package cannot be loaded.
    """
    settings, version = HydraConfig.instance(), VersionBase.instance()
    cfg, version_base, hydra = settings.cfg, version.version_base, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()  # it takes no second program beside a first
    try:
        register()
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            yield
    finally:
        settings.cfg, version.version_base = cfg, version_base
        GlobalHydra.instance().hydra = hydra


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
    """What the user said on the command line of this process, as `only_set` allows it."""
    said = HydraConfig.get().overrides.task  # in which references have their values by now
    return only_set([without_references(item) for item in said])


def only_set(overrides: Sequence[str]) -> list[str]:
    """Settings as they are.

    Raises:
        ValueError: If one adds or removes a setting, which composition itself would allow.
    """
    for override in overrides:
        key = override.split("=")[0]
        if key.startswith("~"):
            raise ValueError(f"{override!r}: a setting cannot be removed; set another value")
        name, own = key.lstrip("+"), key.startswith("+dataset.options.")  # own: the user's words
        if name != key and name not in ADDABLE and not own:
            raise ValueError(f"Could not override {name!r}")
    return list(overrides)


def said_values(overrides: Sequence[str]) -> dict[str, str]:
    """What some overrides set, by name, as it was typed; of one that comes twice the last."""
    return dict(_pairs(overrides))


def said_again(overrides: Sequence[str]) -> dict[str, list[str]]:
    """All values of settings that some overrides give more than one value, by name, in order."""
    values: dict[str, list[str]] = {}
    for name, value in _pairs(overrides):
        values.setdefault(name, []).append(value)
    return {name: several for name, several in values.items() if len(set(several)) > 1}


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and value of each, as it was typed."""
    for override in overrides:
        name, _, value = override.lstrip("+").partition("=")
        yield name, value


def sweep_folder() -> str | None:
    """The folder of this job in a sweep (`--multirun`); None in a single run."""
    return str(HydraConfig.get().runtime.output_dir) if _is_sweep() else None


def sweeps_here() -> bool:
    """Whether this process runs the jobs of a sweep one after the other, by itself."""
    if not _is_sweep():
        return False
    return str(HydraConfig.get().launcher.get("_target_", "")).endswith("BasicLauncher")


def optimises() -> bool:
    """Whether this is a job of a sweep whose sweeper asks for objectives."""
    target = str(HydraConfig.get().sweeper.get("_target_", "")) if _is_sweep() else ""
    return bool(target) and not target.endswith("BasicSweeper")


def _is_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


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


def hides_gpus(*, unasked: bool) -> bool:
    """Whether this job's launcher hides all GPUs from it.

    Args:
        unasked: Because it was told no number (`hydra/launcher=submitit_local`), rather than 0.
    """
    launcher = HydraConfig.get().launcher
    if not str(launcher.get("_target_", "")).endswith("LocalLauncher"):
        return False
    return launcher.gpus_per_node is None if unasked else launcher.gpus_per_node == 0


def check(name: str, overrides: Sequence[str]) -> Any:
    """A program's configuration, composed for nothing else, every value checked as by `typed`."""
    return OmegaConf.to_object(compose(name, overrides=list(overrides)))


def program() -> str:
    """Name of this process's root configuration, which is that of its program."""
    name = HydraConfig.get().job.config_name
    assert name is not None
    return name


def recompose(overrides: Sequence[str]) -> DictConfig:
    """Compose this process's root configuration again with other overrides."""
    return compose(program(), overrides=list(overrides))


def to_yaml(cfg: DictConfig) -> str:
    """The resolved configuration as YAML."""
    return OmegaConf.to_yaml(cfg, resolve=True)


def to_values(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain values, as a run's `config.yaml` holds them."""
    return yaml.safe_load(to_yaml(cfg))


def fingerprint(config: AnyConfig, **extra: Any) -> str:
    """Everything the results depend on, as JSON text.

    Args:
        config: The typed configuration.
        extra: What is not in it: the data's digest, a genotype's content.
    """
    settings = _settings(config) | extra
    kept = {key: value for key, value in settings.items() if key not in EXEMPT}
    return json.dumps(kept, sort_keys=True)


def differences(was: AnyConfig, now: AnyConfig) -> str:
    """The settings in which what was asked for differs from what is, in words; else nothing."""
    return told_changes(
        *({k: v for k, v in _settings(one).items() if k not in MANNER} for one in (was, now))
    )


def told_changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Where two sets of values differ: the first five, as `name: old -> new`."""
    names = sorted(was.keys() | now.keys())
    changed = [name for name in names if was.get(name) != now.get(name)]
    return "; ".join(f"{name}: {was.get(name)} -> {now.get(name)}" for name in changed[:5])


def _settings(value: Any, name: str = "") -> dict[str, Any]:
    """Values by dotted name; a strategy's own name stands for which one it is."""
    if isinstance(value, Enum):
        return {name: value.name}
    if name == "logger":
        return {}  # figures are the same wherever they go
    if name in SEVERAL:
        return UNSAID | _merged({f"{name}.{key}": part for key, part in value.items()})
    if isinstance(value, list) and any(is_dataclass(item) for item in value):
        return _merged({f"{name}.{i}": item for i, item in enumerate(value)})
    if not is_dataclass(value):
        return {name: value}
    prefix, kind = f"{name}." if name else "", type(value).__name__
    said = [part.name for part in fields(value) if not part.metadata.get("omegaconf_ignore")]
    own = {name: RENAMED.get(kind, kind)} if name else {}
    return own | _merged({f"{prefix}{part}": getattr(value, part) for part in said})


def _merged(parts: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, part in parts.items():
        settings |= _settings(part, name)
    return settings
