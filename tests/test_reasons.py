"""What errors say: reasons in one line, and commands that install what is missing."""

import json
import shlex
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement

from darts_gdas import reasons
from darts_gdas.reasons import check_minima, installing, reason


def test_lines_become_one_and_a_long_text_is_cut():
    assert reason(ValueError(" a\n\tb  c ")) == "a b c"
    assert reason(KeyError("x\ny"), named=True) == r"KeyError: 'x\ny'"
    assert reason(OSError("x" * 400)) == "x" * 300 and reason(OSError("abc"), most=2) == "ab"


def test_what_is_too_small_is_named_as_it_is_typed():
    settings = SimpleNamespace(first=2, second=0)
    check_minima(settings, "net.", {"first": 2, "second": 0})
    with pytest.raises(ValueError, match=r"^net\.second must be at least 1, got 0$"):
        check_minima(settings, "net.", {"first": 2, "second": 1})


class Came(Distribution):
    """An installed package with nothing but the record of where it came from."""

    def __init__(self, origin: Any) -> None:
        self.record = origin  # a Distribution has an `origin` of its own from Python 3.13 on

    def read_text(self, filename: str) -> str | None:
        assert filename == "direct_url.json"
        return None if self.record is None else json.dumps(self.record)

    def locate_file(self, path: Any) -> Any:
        raise AssertionError(path)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch):
    """From an origin to the words after `pip install`; None is an index."""

    def after_install(origin: Any) -> list[str]:
        monkeypatch.setattr(reasons, "distribution", lambda _: Came(origin))
        start = f"{reasons.python()} -m pip install "
        assert installing("export").startswith(start)
        return shlex.split(installing("export").removeprefix(start))

    return after_install


def test_an_extra_is_installed_from_where_the_package_came(words, tmp_path: Path, monkeypatch):
    folder = tmp_path / "my work"
    url = folder.as_uri()
    assert words({"url": url, "dir_info": {"editable": True}}) == ["-e", f"{folder}[export]"]
    assert words({"url": url, "dir_info": {}}) == [f"{folder}[export]"]
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert words({"url": url, "dir_info": {"editable": True}}) == ["-e", ".[export]"]
    assert words(None) == ["darts-gdas[export]"]


def test_urls_become_requirements(words):
    """As PEP 508 writes them, read by `packaging`."""
    vcs = {"vcs": "git", "commit_id": "4f42225e91a0be634625c09e84dd29ea82b85e27"}
    for origin, url in (
        ({"url": "https://a.org/b", "vcs_info": vcs}, f"git+https://a.org/b@{vcs['commit_id']}"),
        ({"url": "https://a.org/b.whl", "archive_info": {}}, "https://a.org/b.whl"),
    ):
        (found,) = map(Requirement, words(origin))
        assert (found.name, found.extras, found.url) == ("darts-gdas", {"export"}, url)


def test_a_checkout_that_nobody_installed_is_installed_where_it_lies(monkeypatch):
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(reasons, "distribution", absent)
    folder = Path(reasons.__file__).parents[1]
    place = "." if folder == Path.cwd() else str(folder)
    assert installing("tune").endswith(f"pip install -e {shlex.quote(place + '[tune]')}")


def test_environments_without_pip_are_those_of_uv(monkeypatch):
    monkeypatch.setattr(reasons, "find_spec", lambda _: None)
    assert installing(None, "wandb") == "uv pip install wandb"
