"""`--help` of the programs that `conf/` configures: their parts, their settings, what these mean.

Hydra's own lists its groups and schemas as they are stored, explains no setting, and takes twice
as long: it copies all schemas once for each of 160 questions about groups.
"""

import inspect
import math
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from enum import Enum

import yaml
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf

from darts_gdas import config as configuration
from darts_gdas.cli.completion import choices_of
from darts_gdas.config.groups import SEVERAL
from darts_gdas.runtime.launch import command

ASKING = ("-h", "--help")

EXAMPLES = {
    "search": (
        ("", "the default recipe on images that come with scikit-learn, in minutes"),
        ("method=gdas dataset=cifar10", "a paper's method on CIFAR-10"),
        ("method=darts --help", "the settings that this choice gives"),
        ("resume=auto", "go on with the newest run that is unfinished"),
        ("seed=0,1,2 --multirun", "one run after the other, and a page that compares them"),
        ("--cfg job", "all settings as YAML; nothing is run"),
    ),
    "train": (
        ("genotype=RUN", "train the cell that a search has found"),
        ("genotype=DARTS_V2 dataset=cifar10", "a published cell on CIFAR-10"),
        ("genotype=RUN dataset=cifar10 --help", "the settings that this choice gives"),
        ("resume=auto", "go on with the newest run that is unfinished"),
        ("--cfg job", "all settings as YAML; nothing is run"),
    ),
    "score": (
        ("space=nasbench201 count=300", "rank that many random cells without training them"),
        ("space=darts --help", "the settings that this choice gives"),
        ("--cfg job", "all settings as YAML; nothing is run"),
    ),
}
"""Of each program, arguments and what they do."""

INDENT = 8


def program_help(program: str, overrides: Sequence[str]) -> str:
    """What a program can be told, with the values that the other arguments give its settings.

    Args:
        program: A key of `EXAMPLES`.
        overrides: The arguments beside the question itself.
    """
    start, width = command(program), min(shutil.get_terminal_size((100, 24)).columns, 120)
    with configuration.composing():
        given = [one for one in overrides if not one.startswith("-") and not _is_swept(one)]
        cfg = compose(program, overrides=given, return_hydra_config=True)
        chosen, choices = cfg.hydra.runtime.choices, choices_of(cfg)
    lines = [f"usage: {start} [CHOICE=NAME ...] [SETTING=VALUE ...] [--multirun]", ""]
    longest = max(len(arguments) for arguments, _ in EXAMPLES[program])
    lines += [f"  {start} {words:<{longest}}  {does}" for words, does in EXAMPLES[program]]
    lines += ["", "choices; taken now is what stands in brackets", ""]
    for group, names in choices.items():
        taken = cfg[group] if group in SEVERAL else [chosen.get(group)]
        shown = ", ".join(f"[{name}]" if name in taken else name for name in names)
        if group in SEVERAL:
            shown += f" (several: {group}=[{names[0]}, ...])"
        plus = "+" if group in configuration.ADDABLE else ""
        lines += textwrap.wrap(
            shown, width, initial_indent=f"  {plus}{group}: ", subsequent_indent=" " * 6
        )
    lines += ["", "settings, with the values that they have now", ""]
    for name, value, meaning in settings(cfg):
        lines.append(f"  {name}={value}")
        indent = " " * INDENT
        lines += textwrap.wrap(meaning, width, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)


def _is_swept(override: str) -> bool:
    """Whether it stands for several values, of which a single run has none."""
    (parsed,) = OverridesParser.create().parse_overrides([override])
    return parsed.is_sweep_override()


def settings(cfg: DictConfig, prefix: str = "", about: str = "") -> Iterator[tuple[str, str, str]]:
    """The dotted name of every setting, its value as it is typed, and what it means.

    Args:
        cfg: Composed settings, or a part of them.
        prefix: Where that part stands in the whole, with a dot behind.
        about: What the part is, for settings without a meaning of their own.
    """
    meanings = _meanings(OmegaConf.get_type(cfg) or dict)
    for name in map(str, cfg):
        if not prefix and name == "hydra":
            continue
        value = "???" if OmegaConf.is_missing(cfg, name) else cfg[name]
        if isinstance(value, DictConfig):
            yield from settings(value, f"{prefix}{name}.", meanings.get(name, ""))
        elif not isinstance(cfg._get_node(name), DictConfig):  # no part that is off
            few = [item.name for item in type(value)] if isinstance(value, Enum) else []
            meaning = meanings.get(name, about) + (f" One of {', '.join(few)}." if few else "")
            yield f"{prefix}{name}", _typed(value), meaning


def _typed(value: object) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, Enum):
        return value.name
    plain = OmegaConf.to_container(value) if isinstance(value, ListConfig) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=math.inf)
    return text.removesuffix("...\n").strip()


def _meanings(kind: type) -> dict[str, str]:
    """What the fields of a schema mean, from the docstrings of its class and of those above it."""
    found: dict[str, str] = {}
    for above in kind.__mro__:
        text = inspect.cleandoc(above.__doc__ or "")
        block = re.search(r"^Attributes:\n((?: +.*\n?|\n)*)", text, re.MULTILINE)
        for name, meaning in re.findall(
            r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", block[1] if block else "", re.MULTILINE
        ):
            found.setdefault(name, " ".join(meaning.split()))
    return found
