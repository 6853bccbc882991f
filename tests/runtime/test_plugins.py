"""What packages name in their entry points is loaded once, and what cannot be is told."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from darts_gdas.runtime.plugins import load_plugins
from tests.registries import parts_put_back

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a module and what says that it is installed where this process looks."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def install(package: str, source: str, **entries: str) -> None:
        (tmp_path / f"{package}.py").write_text(source)
        installed = tmp_path / f"{package}-1.0.dist-info"
        installed.mkdir()
        (installed / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (installed / "entry_points.txt").write_text("\n".join(["[darts_gdas]", *lines]))
        names.append(package)

    with parts_put_back():
        yield install
    for name in names:
        sys.modules.pop(name, None)


def test_a_module_is_imported_and_a_function_called_once(install: Install):
    install("counted", "calls = []\n\n\ndef add():\n    calls.append(1)\n", add="counted:add")
    install("imported", "import counted\n", parts="imported")
    load_plugins()
    load_plugins()
    assert sys.modules["counted"].calls == [1] and "imported" in sys.modules


def test_other_groups_are_left_alone(install: Install, tmp_path: Path):
    install("stranger", "raise SystemExit\n", parts="stranger")
    entries = tmp_path / "stranger-1.0.dist-info" / "entry_points.txt"
    entries.write_text("[console_scripts]\nparts = stranger:main\n")
    load_plugins()
    assert "stranger" not in sys.modules


@pytest.mark.parametrize(
    ("source", "value", "reason"),
    [
        ("import nonsense\n", "broken", "ModuleNotFoundError: No module named 'nonsense'"),
        ("def add(:\n", "broken", r"SyntaxError: invalid syntax \(broken.py, line 1\)"),
        ("", "broken:add", "AttributeError: module 'broken' has no attribute 'add'"),
        ("def add():\n    raise ValueError('a\\nb')\n", "broken:add", "ValueError: a b"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_its_reason(
    install: Install, source: str, value: str, reason: str
):
    install("broken", source, parts=value)
    with pytest.raises(ValueError, match=reason) as caught:
        load_plugins()
    assert str(caught.value).startswith(f"the package 'broken' adds '{value}', which cannot be")
    assert "\n" not in str(caught.value)
