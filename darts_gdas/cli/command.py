"""What programs share: where their configuration lies, and how they refuse wrong input."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from darts_gdas.runtime.terminal import complain


def conf_folder() -> Path:
    """`conf/`: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@contextlib.contextmanager
def wrong_input(
    kinds: tuple[type[Exception], ...] = (ValueError, OSError), status: int = 2
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
