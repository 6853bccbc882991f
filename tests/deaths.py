"""Processes that are killed at a chosen moment: forks of this one, which die by SIGKILL."""

import builtins
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from darts_gdas.runtime import files


def is_killed(function: Callable[[], object]) -> bool:
    """Run a function in a fork; whether it was killed there, rather than returned.

    Raises:
        AssertionError: If it failed in another way; the traceback is on stderr.
    """
    with warnings.catch_warnings():  # no other thread of ours holds a lock
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            function()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def die() -> None:
    """As a power cut would have it: no handler runs, no file is closed."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(operation: int) -> None:
    """Kill this process at its n-th operation on files of a run; halves of writes count."""
    done = [0]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            if done[0] == operation:
                die()
            done[0] += 1
            return function(*arguments, **settings)

        return call

    class Halves:
        """A file that is written in two halves, each of them an operation."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "Halves":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, content: bytes) -> None:
            for part in (content[: len(content) // 2], content[len(content) // 2 :]):
                counted(self.file.write)(part)
                self.file.flush()

    for name in ("fsync", "replace", "open"):
        setattr(os, name, counted(getattr(os, name)))
    Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]

    def halved(*arguments: Any) -> Halves:
        return Halves(builtins.open(*arguments))

    files.open = halved  # type: ignore[attr-defined]
