"""Packages of others that one needs for a single format: asked for by name, before work starts."""

from collections.abc import Sequence
from importlib.util import find_spec

from darts_gdas.reasons import installing


def check_extra(what: str, extra: str, packages: Sequence[str]) -> None:
    """Raise a `ValueError` that says what to install, where a package is missing.

    Args:
        what: What needs the packages, as the message begins.
        extra: The extra of this project that installs them.
        packages: Their names, as they are imported.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ValueError(f"{what} needs {' and '.join(missing)}: {installing(extra)}")
