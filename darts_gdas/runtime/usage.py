"""How programs are used: exit statuses, arguments that name runs, wrong input in one line."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from darts_gdas.runtime.launch import command
from darts_gdas.runtime.plugins import load_plugins
from darts_gdas.runtime.terminal import complain

FAULT, USAGE_ERROR, INTERRUPTED = 1, 2, 130
"""Exit statuses."""


def runs_parser(program: str, description: str) -> argparse.ArgumentParser:
    """The parser of a program that takes runs; its options are its own.

    Args:
        program: The name of the program.
        description: What it does.
    """
    parser = argparse.ArgumentParser(prog=command(program), description=description)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="run folders, or folders that hold runs (a sweep)",
    )
    return parser


@contextlib.contextmanager
def wrong_input(
    kinds: tuple[type[Exception], ...] = (ValueError, OSError), status: int = USAGE_ERROR
) -> Iterator[None]:
    """Around a program without composed configuration: an error is one line and an exit status.

    So is Ctrl-C, which cannot cut a file: `write_atomically` has put it in place or left no trace.
    Parts of other packages, of which a run may be made, are loaded first.

    Args:
        kinds: The types of errors that are told.
        status: The exit status that they end in.
    """
    try:
        load_plugins()
        yield
    except KeyboardInterrupt:
        print("interrupted; what is written is whole", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except kinds as error:
        complain(str(error))
        raise SystemExit(status) from None
