"""What a package of one's own needs to add parts to this one (docs/extend.md)."""

from collections.abc import Mapping
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from darts_gdas.config.composition import GROUPS, conf_folder, store_part
from darts_gdas.config.network import SpaceConfig
from darts_gdas.nets import Skeleton
from darts_gdas.nets.code import Code
from darts_gdas.nets.registry import check_name, register_operation, register_skeleton
from darts_gdas.report.logger import Logger
from darts_gdas.runtime.datasets import Dataset
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.optim import Schedule
from darts_gdas.runtime.plugins import load_plugins
from darts_gdas.scoring.scores import Candidate, register_score
from darts_gdas.scoring.warm_start import WarmStart
from darts_gdas.search import (
    Discretizer,
    Hypergradient,
    Judge,
    Penalty,
    Perturbation,
    Relaxation,
)

__all__ = ["Candidate", "Code", "Dataset", "ImageSet", "Skeleton", "SpaceConfig", "load_plugins"]
__all__ += ["register_method", "register_operation", "register_part", "register_score"]
__all__ += ["register_skeleton"]

BASES: Mapping[str, type] = {
    "space": SpaceConfig,
    "relaxation": Relaxation,
    "hypergradient": Hypergradient,
    "discretizer": Discretizer,
    "discretizer/judge": Judge,
    "penalties": Penalty,
    "perturbation": Perturbation,
    "warm_start": WarmStart,
    "optimizer/schedule": Schedule,
    "dataset": Dataset,
    "logger": Logger,
}
"""What a part of each group is."""


def register_part(group: str, name: str, part: type) -> None:
    """Add a choice to a group, in this process: `relaxation=NAME` on the command line.

    Args:
        group: A key of `BASES`.
        name: Lower-case letters, digits and underscores.
        part: A dataclass derived from the group's base class. Its fields become settings; each has
            a default that YAML can hold, `omegaconf.MISSING` where the user must choose.

    Raises:
        ValueError: If the name is taken or malformed, or the part is not such a class.
    """
    base = BASES.get(group)
    if base is None:
        raise ValueError(f"there is no group {group!r} of parts; choose one of {', '.join(BASES)}")
    check_name(name, f"{group} part", {*GROUPS[group], *_files(group)})
    if not (
        isinstance(part, type) and issubclass(part, base) and "__dataclass_fields__" in vars(part)
    ):
        raise ValueError(
            f"{group}={name} must be a @dataclass derived from {base.__name__}, got {part!r}"
        )
    try:
        part()
        yaml.safe_load(OmegaConf.to_yaml(OmegaConf.structured(part)))  # as a run's record is read
    except Exception as error:  # whatever a user's class does
        raise ValueError(
            f"{group}={name} cannot be made from its defaults ({' '.join(str(error).split())}): "
            f"write the abstract methods of {base.__name__}, and give every field a default: a "
            "number, a text, an Enum, a list, a dict, or a dataclass of these"
        ) from None
    GROUPS[group][name] = part
    store_part(group, name, part)


def register_method(name: str, settings: Mapping[str, Any]) -> None:
    """Add a method, in this process: `method=NAME` on the command line.

    Args:
        name: Lower-case letters, digits and underscores.
        settings: What would stand in `conf/method/NAME.yaml`; `defaults` names the method it is
            like and the parts it takes.

    Raises:
        ValueError: If the name is taken or malformed.
    """
    store, node = ConfigStore.instance(), OmegaConf.create(dict(settings))
    # A job that a launcher starts is given the store, and registers the same once more.
    others = {file for file, kept in store.repo.get("method", {}).items() if kept.node != node}
    check_name(name, "method", _files("method") | {file.removesuffix(".yaml") for file in others})
    store.store(group="method", name=name, node=node, package="_global_")


def _files(group: str) -> set[str]:
    """Names of the choices that are files of `conf/`."""
    return {path.stem for path in (conf_folder() / group).glob("*.yaml")}
