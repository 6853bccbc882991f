"""Completion of the command in a shell: a script with all words; no key press starts Python.

Hydra's own (`search.py -sc install=bash`) starts the program at every press of the key, and that
imports PyTorch, which takes seconds.
"""

import contextlib
import importlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from darts_gdas import config as configuration
from darts_gdas.cli.plan import OBJECTIVES
from darts_gdas.config.groups import SEVERAL

COMPLETION = "--completion"

OPTIONAL = ("experiment", "hydra/launcher")
"""Groups beside those that a program's own defaults choose from; experiments are retrainings."""

BASH = """\
# eval "$(darts-gdas --completion bash)" in ~/.bashrc
_darts_gdas() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" names="{programs}" values="" command program word words
    local current="${{line##*[[:space:]]}}"
    read -r command program _ <<< "${{line%"$current"}}"  # whatever path and blanks are typed
    case "$program" in
{cases}
    esac
    read -ra words <<< "$line"
    for word in "${{words[@]}}"; do
        case "$word" in
{parts}
        esac
    done
    if [[ $current == *=* ]]; then names=$values; fi
    mapfile -t COMPREPLY < <(compgen -W "$names" -- "$current")
    if [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *= ]]; then
        compopt -o nospace 2> /dev/null
    fi
    # bash takes = for the end of a word
    if [[ $current == *=* ]]; then COMPREPLY=("${{COMPREPLY[@]#"${{current%=*}}="}}"); fi
}}
complete -o default -F _darts_gdas darts-gdas
"""
BASH_CASE = """        {program}) names="{names}" values="{values}" ;;"""

ZSH = """\
#compdef darts-gdas
# darts-gdas --completion zsh > a file _darts-gdas in a folder of $fpath; or eval, after compinit
_darts_gdas() {{
    local names values word
    if (( CURRENT == 2 )); then compadd -- {programs}; return; fi
    case "$words[2]" in
{cases}
    esac
    for word in "${{words[@]}}"; do
        case "$word" in
{parts}
        esac
    done
    if [[ $PREFIX == *=* ]]; then compadd -- ${{=values}}; else compadd -S '' -- ${{=names}}; fi
    _files
}}
compdef _darts_gdas darts-gdas
"""
ZSH_CASE = """        {program}) names="{names}" values="{values}" ;;"""

FISH = """\
# darts-gdas --completion fish > ~/.config/fish/completions/darts-gdas.fish
function __darts_gdas
    set -l words (commandline -opc)
    set -l names {programs}
    set -l values
    if set -q words[2]
        switch $words[2]
{cases}
        end
    end
    for word in $words
        switch $word
{parts}
        end
    end
    string match -q '*=*' -- (commandline -ct); and set names $values
    printf '%s\\n' $names
end
complete -c darts-gdas -a '(__darts_gdas)'
complete -c darts-gdas -f -n 'test (count (commandline -opc)) -lt 2'
"""
FISH_CASE = """            case {program}
                set names {names}
                set values {values}"""

PART = """            "{word}") names+=" {names}"; values+=" {values}" ;;"""
FISH_PART = """            case "{word}"
                set -a names {names}
                set -a values {values}"""

SHELLS = {
    "bash": (BASH, BASH_CASE, PART),
    "zsh": (ZSH, ZSH_CASE, PART),
    "fish": (FISH, FISH_CASE, FISH_PART),
}
"""Of each shell the script, the words of a program in it, and those that a choice adds."""

FEW = {"resume": ("none", "auto"), "class_weights": ("none", "balanced")}
"""Words that a setting may be, beside other values."""


@dataclass(frozen=True)
class Words:
    """What may follow the name of a program.

    Attributes:
        names: Options, and settings up to their "=".
        values: Settings with a value that is one of few.
    """

    names: tuple[str, ...]
    values: tuple[str, ...] = ()


def script(shell: str, composed: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    """The script that makes a shell complete the command; it holds today's parts and packages.

    Args:
        shell: A key of `SHELLS`.
        composed: The programs that `conf/` configures.
        plain: The others: for each its module, the function in it, and what it does.

    Raises:
        ValueError: If the shell is not known.
    """
    if shell not in SHELLS:
        raise ValueError(f"{COMPLETION} {shell!r}: choose one of {', '.join(SHELLS)}")
    whole, case, part = SHELLS[shell]
    words = {name: _settings(name) for name in composed}
    words |= {name: _options(*where[:2]) for name, where in plain.items()}
    words[COMPLETION] = Words(tuple(SHELLS))
    cases = [
        case.format(program=name, names=" ".join(own.names), values=" ".join(own.values))
        for name, own in words.items()
    ]
    parts = [
        part.format(word=word, names=" ".join(own.names), values=" ".join(own.values))
        for word, own in _parts()
    ]
    return whole.format(programs=" ".join(words), cases="\n".join(cases), parts="\n".join(parts))


def _parts() -> Iterator[tuple[str, Words]]:
    """What each choice of a group, as it is typed, adds: the settings of its part."""
    for group, nodes in configuration.GROUPS.items():
        for name, node in nodes.items():
            choice, package = name.removesuffix("_schema"), group.replace("/", ".")
            if group in SEVERAL:
                choice, package = f"[{choice}]", f"{group}.{name}"
            keys = dict(_leaves(OmegaConf.structured(node), f"{package}."))
            if keys:
                yield f"{group}={choice}", Words(tuple(f"{key}=" for key in keys), _values(keys))


def _values(keys: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, node in keys.items() for value in _few(node))


def _settings(program: str) -> Words:
    """All settings of a program, and the choices of its groups."""
    with configuration.composing():
        cfg = compose(program, return_hydra_config=True)
        choices = choices_of(cfg)
    choices |= {group: [f"[{one}]" for one in choices[group]] for group in SEVERAL if group in cfg}
    prefixes = {group: "+" if group in configuration.ADDABLE else "" for group in choices}
    values = [f"{prefixes[g]}{g}={name}" for g in choices for name in choices[g]]
    keys = dict(_leaves(cfg))
    values += _values(keys)
    few = FEW | {"objective": OBJECTIVES.get(program, ())}
    values += [f"{key}={value}" for key in few if key in keys for value in few[key]]
    names = {*(f"{prefixes[g]}{g}=" for g in choices if choices[g]), *(f"{key}=" for key in keys)}
    return Words(("--multirun", "--help", *sorted(names)), tuple(dict.fromkeys(values)))


def choices_of(cfg: DictConfig) -> dict[str, list[str]]:
    """The groups that a composed program chooses from, with what each offers; while composing."""
    chosen = {*cfg.hydra.runtime.choices, *OPTIONAL, *(one for one in SEVERAL if one in cfg)}
    chosen -= {"experiment"} if "genotype" not in cfg else set()
    groups = sorted(g for g in chosen if g in OPTIONAL or not g.startswith(("hydra/", "scale")))
    return {group: _choices(group) for group in groups}


def _choices(group: str) -> list[str]:
    options = GlobalHydra.instance().config_loader().get_group_options(group)
    return sorted(name for name in options if not name.endswith(("_schema", ".yaml")))


def _leaves(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Settings by their dotted names."""
    for name in cfg:
        if not prefix and name == "hydra":
            continue
        value = cfg._get_node(name, throw_on_missing_value=False)
        if isinstance(value, DictConfig) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", getattr(value, "_value", lambda: None)()


def _few(value: object) -> list[str]:
    """The values that a setting can have, where they are few."""
    if isinstance(value, bool):
        return ["true", "false"]
    return [item.name for item in type(value)] if isinstance(value, Enum) else []


def _options(module: str, function: str) -> Words:
    """The options of a program and what they and its arguments choose from, from its help."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        getattr(importlib.import_module(module), function)(["--help"])
    options = re.findall(r"(?<![\w-])--[a-z][\w-]*", told.getvalue())
    choices = re.findall(r"(?:(--[\w-]+)\s+)?\{([\w,.-]+)\}", told.getvalue())
    few = [(option, name) for option, some in choices for name in some.split(",")]
    values = tuple(dict.fromkeys(f"{option}={name}" for option, name in few if option))
    return Words(tuple(sorted({"--help", *options, *(name for _, name in few)})), values)
