"""Packages that add parts to this one: their entry points name what to load."""

import functools
from importlib.metadata import entry_points

from darts_gdas.reasons import reason

GROUP = "darts_gdas"
"""Group of the entry points."""


@functools.cache
def load_plugins() -> None:
    """Import what installed packages name in the group `darts_gdas`, and call what is a function.

    Once per process. Every program begins with it; a notebook calls it by itself.

    Raises:
        ValueError: If one cannot be loaded.
    """
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        try:
            part = entry.load()
            if callable(part):
                part()
        except Exception as error:  # whatever a package of somebody else does wrong
            package = entry.dist.name if entry.dist else entry.module
            raise ValueError(
                f"the package {package!r} adds {entry.value!r}, which cannot be loaded: "
                f"{reason(error, named=True)}; repair the package, or uninstall it"
            ) from None
