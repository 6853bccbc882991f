"""How programs are used: exit statuses, arguments that name runs, wrong input in one line."""

import argparse
import contextlib
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

from darts_gdas.runtime.files import WriteError
from darts_gdas.runtime.launch import command
from darts_gdas.runtime.plugins import load_plugins
from darts_gdas.runtime.terminal import complain, put

FAULT, USAGE_ERROR, INTERRUPTED, UNREAD = 1, 2, 130, 141
"""Exit statuses."""

STDOUT = 1


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
    replace_closed()
    try:
        load_plugins()
        yield
        flush()
    except KeyboardInterrupt:
        put("interrupted; what is written is whole", sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except kinds as error:
        end_if_unread(error)
        complain(str(error))
        raise SystemExit(status) from None


def replace_closed() -> None:
    """Where a shell has closed what is printed on (`>&-`, `2>&-`), print to nobody.

    Python has None there, in which hydra cannot write, and which `print` takes for standard output.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def flush() -> None:
    """Print what is held back, so that what cannot be printed is known now.

    Raises:
        OSError: If it cannot be, on a full disc say.
    """
    sys.stdout.flush()


def put_result(text: str) -> None:
    """Print what a finished run has found; all its files are written before.

    Raises:
        WriteError: If standard output takes nothing, on a full disc say.
    """
    try:
        print(text)
        flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _close_output()
        raise WriteError(
            f"standard output takes nothing ({error.strerror}); all that was to be told "
            "lies in files, whole"
        ) from error


def end_if_unread(error: BaseException) -> None:
    """Where `head` has read enough of what is printed: the end, without a word.

    Raises:
        SystemExit: If a pipe was broken, and it is standard output.
    """
    if not isinstance(error, BrokenPipeError):
        return
    output = select.poll()
    output.register(STDOUT, 0)  # of errors alone
    if output.poll(0):
        _close_output()
        raise SystemExit(UNREAD) from None


def _close_output() -> None:
    """Print no more, or Python, at its end, complains of what it holds back."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
