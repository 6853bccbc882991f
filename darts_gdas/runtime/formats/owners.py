"""The packages that own formats: imported when they are needed, their errors in one line."""

import contextlib
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from darts_gdas.reasons import installing, reason

ABSENT = re.compile(r"^Dataset not found|download=True|No such file")
"""What packages say where files are not there, in place of which our settings are named."""


def owner(package: str) -> Any:
    """The package that reads a format.

    Raises:
        ValueError: If it is not installed, with the command that does it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ValueError(
            f"this data set needs the package {package}: {installing('datasets')} ({error})"
        ) from None


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Around calls of other packages alone: whatever they raise becomes one line.

    Args:
        what: The setting and what it names.

    Raises:
        ValueError: If the block raises anything but a lack of memory.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{what} cannot be read ({reason(error, named=True)})") from error


@contextlib.contextmanager
def looking(name: str, root: str, *, can_fetch: bool, has_tried: bool) -> Iterator[None]:
    """The same around what opens a set by its name, whose files may not be there.

    Args:
        name: The set.
        root: The setting.
        can_fetch: Whether `dataset.download=true` is possible.
        has_tried: Whether it was asked for.

    Raises:
        ValueError: If the block raises anything but a lack of memory.
    """
    try:
        with reading(f"{name} in dataset.root={root!r}"):
            yield
    except ValueError as error:
        if has_tried or not ABSENT.search(str(error.__cause__)):
            raise
        raise ValueError(
            f"{name} is not in dataset.root={root!r}, or damaged; pass "
            + ("dataset.download=true to fetch it, or " if can_fetch else "")
            + "dataset.root=PATH if it is elsewhere"
        ) from None
