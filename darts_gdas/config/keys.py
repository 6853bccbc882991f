"""The names of all settings: of every program, and of every choice of a group."""

from dataclasses import fields

from omegaconf import OmegaConf

from darts_gdas.config.composition import CHOICES
from darts_gdas.config.groups import GROUPS, SEVERAL
from darts_gdas.config.score import ScoreConfig
from darts_gdas.config.search import SearchConfig
from darts_gdas.config.train import TrainConfig
from darts_gdas.tasks.method import Stage

PROGRAMS = {"search": SearchConfig, "train": TrainConfig, "score": ScoreConfig}


def known_keys() -> list[str]:
    """All settings by their dotted names, to suggest one for a misspelt key."""
    keys = {*GROUPS, *CHOICES}
    for kind in PROGRAMS.values():
        keys |= _keys(kind)
    for group, nodes in GROUPS.items():
        for name, node in nodes.items():
            keys |= _keys(node, f"{group}.{name}" if group in SEVERAL else group.replace("/", "."))
    keys |= {f"stages.{i}.{part.name}" for i in range(3) for part in fields(Stage)}
    return sorted(keys)


def programs_with(key: str) -> list[str]:
    """The programs that have a setting whatever is chosen."""
    if key == "method":  # a choice of files, and no setting of its own
        return ["search"]
    return [name for name, kind in PROGRAMS.items() if key in _keys(kind)]


def _keys(node: type, name: str = "") -> set[str]:
    """What can be set in a dataclass, whose own defaults need not be a whole."""
    waiting, keys = [(name, OmegaConf.to_container(OmegaConf.structured(node)))], {name} - {""}
    while waiting:
        name, tree = waiting.pop()
        for key, value in tree.items() if isinstance(tree, dict) else ():
            waiting.append((f"{name}.{key}" if name else str(key), value))
            keys.add(waiting[-1][0])
    return keys
