"""The way into programs: Ctrl-C among their imports, for seconds, is one line; memory is kept."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def importing(name: str) -> Iterator[None]:
    """Around the imports of a program. Python itself can lose a Ctrl-C among them, this cannot.

    A program also keeps the memory that it frees, see `_keep_memory`.

    Args:
        name: The module's `__name__`: if it is no program, its importer decides about Ctrl-C.
    """
    is_program = name == "__main__"
    if is_program:
        _keep_memory()
    before = signal.getsignal(signal.SIGINT)
    if not is_program or before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    yield
    signal.signal(signal.SIGINT, before)


def _leave(signum: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted; nothing was begun, and nothing is kept\n")
    os._exit(128 + signum)  # what is being imported cannot hold it up, and has nothing to save


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def _keep_memory() -> None:
    """Let the C library keep what is freed: every step of a training takes it again.

    It hands the upper end of its memory back to the system after each step, and the next one pays
    a fault for every page, 2 to 8 % of a step of NAS-Bench-201's network (docs/benchmarks.md).
    Blocks above 32 MiB, the largest value that glibc takes, go back as ever. Only programs do so:
    a library leaves its host's memory alone.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _OF_THE_USER):
        return
    with contextlib.suppress(OSError, AttributeError):  # another library than glibc
        set_option = ctypes.CDLL(None).mallopt
        set_option(_M_MMAP_THRESHOLD, 32 * 2**20)
        set_option(_M_TRIM_THRESHOLD, 2**31 - 1)


def main() -> None:
    """The command `darts-gdas`."""
    with importing("__main__"):
        from darts_gdas.cli.main import main as run
    run()
