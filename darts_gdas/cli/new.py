"""The program that begins a package with a part of one's own, which works, and its test."""

import argparse
import keyword
from collections.abc import Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from darts_gdas import config as configuration
from darts_gdas.nets import OPERATIONS
from darts_gdas.nets.registry import check_name
from darts_gdas.runtime.files import write_text
from darts_gdas.runtime.launch import command, shell_quoted
from darts_gdas.runtime.usage import wrong_input
from darts_gdas.scoring.scores import COLUMNS, SCORES

CHOSEN_BY = {
    "my_method": "method={0}",
    "my_space": "space={0} method=gdas",
    "my_dataset": "dataset={0} dataset.root=PATH",
    "my_operation": "space.candidates=[none,skip_connect,sep_conv_3x3,{0}] method=gdas",
    "my_penalty": "penalties=[{0}]",
    "my_score": "warm_start=ntk warm_start.scores=[{0},naswot] method=gdas",
}
"""The kinds of parts that can be begun, and the settings by which a search takes such a part."""

TEMPLATES = resources.files("darts_gdas.cli") / "templates"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; wrong input is one line and exit status 2."""
    parser = argparse.ArgumentParser(
        prog=command("new"),
        description="Begin a package with a part of your own, and its test; both work at once.",
    )
    parser.add_argument("kind", choices=CHOSEN_BY, help="what the part is")
    parser.add_argument("name", metavar="NAME", help="of the package, the folder and the part")
    options = parser.parse_args(arguments)
    name, folder = options.name, Path(options.name)
    with wrong_input():
        check_name(name, "part", _known(options.kind))
        if folder.exists():
            raise ValueError(f"{str(folder.resolve())!r} is there already; choose another NAME")
        if keyword.iskeyword(name) or not _is_plain(name) or find_spec(name):
            raise ValueError(f"{name!r} cannot be a package of yours; choose another NAME")
        for path, text in _files(options.kind, name).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_text(folder / path, text)
            print(folder / path)
    chosen = CHOSEN_BY[options.kind].format(name).split()
    print(f"\nNext:\n  python -m pytest {shell_quoted(name)}\n  pip install -e ./{name}")
    print(f"  {command('search', *chosen)}")


def _known(kind: str) -> set[str]:
    """Names that the group of a part has already."""
    group = {"my_penalty": "penalties"}.get(kind, kind.removeprefix("my_"))
    files = (configuration.conf_folder() / group).glob("*.yaml")
    names = {path.stem for path in files} | {*configuration.GROUPS.get(group, ())}
    tables = {
        "my_operation": {*OPERATIONS},
        "my_score": {*SCORES, *COLUMNS},
        "my_method": {*configuration.GROUPS["relaxation"]},  # the package registers one, too
    }
    return names | tables.get(kind, set())


def _is_plain(name: str) -> bool:
    """Whether a distribution may be called so, and hydra reads it as a name."""
    words = ("null", "true", "false", "on", "off", "yes", "no", "nan", "inf")
    return name[0].isalpha() and name[-1] != "_" and name.lower() not in words


def _files(kind: str, name: str) -> dict[Path, str]:
    """What the package holds, by its places in it."""
    places = {
        "readme": Path("README.md"),
        "pyproject": Path("pyproject.toml"),
        kind: Path(name, "part.py"),
        f"{kind}_test": Path("tests", f"test_{name}.py"),
    }
    texts = {
        path: (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8").replace("NAME", name)
        for template, path in places.items()
    }
    first = texts[places[kind]].splitlines()[0]
    chosen = " ".join(map(shell_quoted, CHOSEN_BY[kind].format(name).split()))
    words = {"DISTRIBUTION": name.replace("_", "-"), "ABOUT": first.strip('"'), "CHOSEN": chosen}
    for path in (places["readme"], places["pyproject"]):
        for word, value in words.items():
            texts[path] = texts[path].replace(word, value)
    return {**texts, Path(name, "__init__.py"): f"{first}\n"}
