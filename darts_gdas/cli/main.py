"""The command `darts-gdas`: all programs by their names, with their configuration at hand."""

import importlib
import sys
from collections.abc import Callable

import hydra

import darts_gdas
from darts_gdas import config
from darts_gdas.cli.arguments import take_arguments
from darts_gdas.cli.errors import usage_errors
from darts_gdas.runtime.launch import COMMAND, own_door
from darts_gdas.runtime.terminal import complain
from darts_gdas.runtime.usage import USAGE_ERROR

HYDRA = {
    "search": ("darts_gdas.cli.programs", "run_search", "search for a cell"),
    "train": ("darts_gdas.cli.programs", "run_train", "train a found or a published cell"),
    "score": ("darts_gdas.cli.score", "run_score", "rank untrained cells"),
}
"""Programs configured by `conf/`: module, function, what they do."""

PLAIN = {
    "show": ("darts_gdas.cli.show", "main", "draw a cell and say what its network costs"),
    "export": ("darts_gdas.cli.export", "main", "take a trained network away"),
    "report": ("darts_gdas.report.command", "main", "render the page of a run, or of several"),
    "compare": ("darts_gdas.cli.compare", "main", "compare finished runs"),
    "doctor": ("darts_gdas.cli.doctor", "main", "look at this installation, and try it"),
    "new": ("darts_gdas.cli.new", "main", "begin a package with a part of your own"),
    "tune": ("darts_gdas.cli.tune", "main", "vary settings in a study (Optuna)"),
}
"""Programs with options of their own."""


def main() -> None:
    """Run a program: `darts-gdas search method=gdas`."""
    own_door.set(sys.argv[0])
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in HYDRA:
        _take_name()
        run_composed(name)
    elif name in PLAIN:
        _take_name()
        module, function, _ = PLAIN[name]
        getattr(importlib.import_module(module), function)()
    elif name == "--version":
        with usage_errors():
            print(f"{COMMAND} {darts_gdas.__version__}")
    elif name == "--completion":
        _complete()
    elif name in ("-h", "--help"):
        with usage_errors():
            print(_help())
    else:
        known = ", ".join([*HYDRA, *PLAIN])
        complain(f"{COMMAND} has no program {name!r}; choose one of {known}")
        raise SystemExit(USAGE_ERROR)


def run_composed(name: str) -> None:
    """Compose a program's configuration from the command line, and run it; errors are one line."""
    module, function, _ = HYDRA[name]
    with usage_errors():
        program: Callable = getattr(importlib.import_module(module), function)
        config.register()
        take_arguments(name)
        folder = str(config.conf_folder())
        hydra.main(version_base="1.3", config_path=folder, config_name=name)(program)()


def _take_name() -> None:
    """What follows is the program's own."""
    del sys.argv[1]


def _complete() -> None:
    """Print the script for a shell."""
    from darts_gdas.cli.completion import script

    with usage_errors():
        print(script(" ".join(sys.argv[2:]), HYDRA, PLAIN), end="")


def _help() -> str:
    rows = [f"  {name:<9}{text}" for name, (_, _, text) in {**HYDRA, **PLAIN}.items()]
    return "\n".join(
        [
            f"usage: {COMMAND} PROGRAM [key=value ...]",
            "",
            *rows,
            "",
            f"{COMMAND} PROGRAM --help lists its settings",
            f"{COMMAND} --completion bash (or zsh, fish) prints a script that completes them",
        ]
    )
