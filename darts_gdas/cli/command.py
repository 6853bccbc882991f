"""What programs share: their configuration, their runs, and how they refuse wrong input."""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from darts_gdas.runtime.launch import command
from darts_gdas.runtime.terminal import complain

FAULT, USAGE_ERROR = 1, 2
"""Exit statuses."""


def conf_folder() -> Path:
    """`conf/`: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def runs_parser(program: str, description: str) -> argparse.ArgumentParser:
    """The parser of a program that takes runs; its options are its own.

    Args:
        program: Its name.
        description: What it does.
    """
    parser = argparse.ArgumentParser(prog=command(program), description=description)
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders, or folders that hold runs (a sweep)"
    )
    return parser


@contextlib.contextmanager
def wrong_input(
    kinds: tuple[type[Exception], ...] = (ValueError, OSError), status: int = USAGE_ERROR
) -> Iterator[None]:
    """Around a program without composed configuration: an error is one line and an exit status.

    Args:
        kinds: Of errors.
        status: To exit with.
    """
    try:
        yield
    except kinds as error:
        complain(str(error))
        raise SystemExit(status) from None
