"""What is typed on the command line, as hydra can read it."""

import re
import sys

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from darts_gdas.runtime.launch import setting


def take_arguments() -> None:
    """Quote what hydra could not read among this process's arguments; call before `hydra.main`."""
    sys.argv[1:] = map(as_meant, sys.argv[1:])


def as_meant(argument: str) -> str:
    """A setting as hydra can read it: a path with spaces, signs or other letters gets its quotes.

    What hydra understands, and a list or a text with commas, stays as it was typed.
    """
    name, _, value = argument.partition("=")
    if not re.fullmatch(r"\+?[\w./]+", name) or not value or value[0] in "[{'\"" or "," in value:
        return argument
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return setting(name, value)
    return argument
