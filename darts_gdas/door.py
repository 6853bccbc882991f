"""The way into programs: Ctrl-C while they import their packages, for seconds, is one line."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def importing(name: str) -> Iterator[None]:
    """Around the imports of a program. Python itself can lose a Ctrl-C among them, this cannot.

    Args:
        name: The module's `__name__`: if it is no program, its importer decides about Ctrl-C.
    """
    before = signal.getsignal(signal.SIGINT)
    if name != "__main__" or before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    yield
    signal.signal(signal.SIGINT, before)


def _leave(signum: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted; nothing was begun, and nothing is kept\n")
    os._exit(128 + signum)  # what is being imported cannot hold it up, and has nothing to save


def main() -> None:
    """The command `darts-gdas`."""
    with importing("__main__"):
        from darts_gdas.cli.main import main as run
    run()
