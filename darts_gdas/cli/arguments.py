"""What is typed on the command line, as hydra can read it."""

import re
import sys

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from darts_gdas import config as configuration
from darts_gdas.cli.program_help import ASKING, program_help
from darts_gdas.runtime.launch import is_follower, setting, shell_quoted
from darts_gdas.runtime.terminal import complain
from darts_gdas.space.peer_strings import PRINTED


def take_arguments(program: str) -> None:
    """Answer `--help`, or quote what hydra could not read; call before `hydra.main`.

    A line says what was quoted, since the recorded settings show it so.

    Args:
        program: "search", "train" or "score", whose arguments this process has.
    """
    typed = sys.argv[1:]
    for argument in typed:
        _check_style(argument)
    sys.argv[1:] = map(as_meant, typed)
    quoted = [shell_quoted(item) for item in sys.argv[1:] if item not in typed]
    if quoted and not is_follower():
        complain(f"quoted for hydra: {' '.join(quoted)}", "note")
    if {*ASKING} & {*typed}:
        if not is_follower():
            print(program_help(program, sys.argv[1:]))
        raise SystemExit


def _check_style(argument: str) -> None:
    """Raise a `ValueError` for a setting in the style of other programs, `--batch-size 3`."""
    name, _, value = argument.removeprefix("--").partition("=")
    key = name.replace("-", "_")
    if argument.startswith("--") and key in (
        *configuration.known_keys(),
        *configuration.GROUPS,
        "method",
    ):
        raise ValueError(f"settings are written without dashes, {key}={value or 'VALUE'}")


def as_meant(argument: str) -> str:
    """A setting as hydra can read it: a path with spaces, signs or other letters gets its quotes.

    What hydra understands, and a list or a text with commas, stays as it was typed; a cell as DARTS
    prints it is none of them.
    """
    name, _, value = argument.partition("=")
    if not re.fullmatch(r"\+?[\w./]+", name) or not value:
        return argument
    if not value.startswith(PRINTED) and (value[0] in "[{'\"" or "," in value):
        return argument
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return setting(name, value)
    return argument
