"""Why something failed and what helps, in the words of an error, for messages of one line."""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

DISTRIBUTION = "darts-gdas"


def reason(error: BaseException, *, named: bool = False, most: int = 300) -> str:
    """What an error says, in one line.

    Args:
        error: The error, whose text may have several lines and be of any length.
        named: Whether its type comes first, where its text alone tells little.
        most: The characters that are kept.
    """
    text = f"{type(error).__name__}: {error}" if named else str(error)
    return " ".join(text.split())[:most]


def check_minima(settings: object, group: str, minima: Mapping[str, int]) -> None:
    """Raise a `ValueError` that names the first of some settings which is too small.

    Args:
        settings: What has them as attributes.
        group: What stands before their names when they are typed, such as "net."; else "".
        minima: The least value of each.
    """
    for name, minimum in minima.items():
        if (value := getattr(settings, name)) < minimum:
            raise ValueError(f"{group}{name} must be at least {minimum}, got {value}")


def python() -> str:
    """`python` where that is this interpreter, else its path."""
    found, here = shutil.which("python"), Path(sys.executable)
    if found is not None and Path(found).parent.resolve() == here.parent.resolve():
        return "python"
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)


def installing(extra: str | None, package: str = "") -> str:
    """What to paste into a shell to install what an extra of this project names.

    For this interpreter, and from where this package came: a checkout, a repository or a file (as
    PEP 610 records it), else an index.

    Args:
        extra: Its name, such as "export"; None where there is none for the package.
        package: What is installed then.
    """
    if extra is None:
        return f"{_pip()} install {package}"
    name = f"{DISTRIBUTION}[{extra}]"
    try:
        told = distribution(DISTRIBUTION).read_text("direct_url.json") or "{}"
        origin = json.loads(told)
    except PackageNotFoundError:  # imported from a checkout that nobody installed
        origin = {"dir_info": {"editable": True}, "url": Path(__file__).parents[1].as_uri()}
    words = [name]
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        words = [f"{name} @ {vcs['vcs']}+{origin['url']}@{vcs['commit_id']}"]
    elif "dir_info" in origin:
        folder = Path(url2pathname(urlsplit(origin["url"]).path))
        place = "." if folder == Path.cwd() else str(folder)
        words = [*(["-e"] if origin["dir_info"].get("editable") else []), f"{place}[{extra}]"]
    elif origin:
        words = [f"{name} @ {origin['url']}"]
    return f"{_pip()} install {shlex.join(words)}"


def _pip() -> str:
    return f"{python()} -m pip" if find_spec("pip") else "uv pip"  # uv's environments have none
