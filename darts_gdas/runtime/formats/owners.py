"""The packages that own formats: imported when they are needed, their errors in one line."""

import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from darts_gdas.reasons import reason


def owner(package: str) -> Any:
    """The package that reads a format.

    Raises:
        ValueError: If it is not installed, with the command that does it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ValueError(
            f"this data set needs the package {package}: pip install 'darts-gdas[datasets]' "
            f"({error})"
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
        raise ValueError(
            f"{what} cannot be read ({type(error).__name__}: {reason(error)})"
        ) from error
