"""What is begun works: the tests that it comes with are run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from darts_gdas.cli.new import CHOSEN_BY, main

ROOT = Path(__file__).parents[2]


def passed(folders: list[str], *options: str) -> int:
    """How many tests of packages pass, in a process that is theirs; a failure is one here."""
    paths = os.pathsep.join([str(ROOT), *(str(Path(folder).resolve()) for folder in folders)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *options, *folders]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None
    return int(found[1])


def test_a_new_package_passes_its_own_tests(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["my_space", "first_try"])
    assert "python -m pytest first_try" in capsys.readouterr().out
    assert passed(["first_try"]) == 2


DEFAULTS = {
    "my_method": ("Linear(1.0, 0.1)", "Linear(3.0, 0.25)"),
    "my_penalty": ("weight: float = 1.0", "weight: float = 0.25"),
    "my_space": ("num_nodes: int = 2", "num_nodes: int = 3"),
}
"""Numbers of templates that a reader changes first, and others."""


def test_packages_of_other_kinds_pass_their_tests(tmp_path, monkeypatch):
    """In one process, which takes their time together; also with other defaults, in parts."""
    monkeypatch.chdir(tmp_path)
    kinds = [kind for kind in CHOSEN_BY if kind != "my_space"]
    names = [kind.replace("my", "first") for kind in kinds]
    for kind, name in zip(kinds, names, strict=True):
        main([kind, name])
    changed = [kind.replace("my", "changed") for kind in DEFAULTS]
    for kind, name in zip(DEFAULTS, changed, strict=True):
        main([kind, name])
        part = Path(name, name, "part.py")
        assert DEFAULTS[kind][0] in part.read_text()
        part.write_text(part.read_text().replace(*DEFAULTS[kind]))
    few = ("--import-mode=importlib", "-k", "not (changed and search)")
    assert passed([*names, *changed], *few) == 13 + 4
    ruff = [sys.executable, "-m", "ruff", "check", "--select=E,F,B", "--line-length=100"]
    assert subprocess.run([*ruff, *names], capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", CHOSEN_BY)
def test_a_new_package_says_what_it_is(tmp_path, monkeypatch, capsys, kind: str):
    monkeypatch.chdir(tmp_path)
    main([kind, "first_try"])
    files = sorted(str(path) for path in Path("first_try").rglob("*.*"))
    assert files == [
        "first_try/README.md",
        "first_try/first_try/__init__.py",
        "first_try/first_try/part.py",
        "first_try/pyproject.toml",
        "first_try/tests/test_first_try.py",
    ]
    *_, hint = capsys.readouterr().out.splitlines()
    readme = Path("first_try", "README.md").read_text()
    (command,) = re.findall(r"^darts-gdas search (.*)$", readme, re.MULTILINE)
    assert hint.endswith(command) and "first_try" in command and "pip install -e ." in readme
    whole = "".join(Path(file).read_text() for file in files)
    assert not re.search(r"\b(NAME|ABOUT|CHOSEN|DISTRIBUTION)\b", whole)


def test_installed_it_is_known_to_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["my_space", "first_try"])
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"]
    subprocess.run(command, cwd=tmp_path / "first_try", check=True, capture_output=True)
    (wheel,) = (tmp_path / "first_try" / "dist").glob("*.whl")
    paths = os.pathsep.join([str(wheel), str(ROOT)])  # a wheel can be imported as it is
    code = "from darts_gdas.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "search", "space=first_try", "space.num_nodes=3", "--cfg=job"],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "space:\n  num_nodes: 3\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["my_method", "My-Method"], "lower-case letters, digits and underscores"),
        (["my_method", "there"], "is there already; choose another NAME"),
        (["my_method", "gdas"], "the name 'gdas' is taken"),
        (["my_space", "s1"], "the name 's1' is taken"),
        (["my_operation", "sep_conv_3x3"], "the name 'sep_conv_3x3' is taken"),
        (["my_penalty", "cost"], "the name 'cost' is taken"),
        (["my_score", "naswot"], "the name 'naswot' is taken"),
        (["my_score", "rank"], "the name 'rank' is taken"),
        (["my_dataset", "class"], "'class' cannot be a package of yours"),
        (["my_dataset", "torch"], "'torch' cannot be a package of yours"),
        (["my_dataset", "2nd"], "'2nd' cannot be a package of yours"),
        (["my_dataset", "on"], "'on' cannot be a package of yours"),
        (["my_method", "__x"], "'__x' cannot be a package of yours"),
        (["my_method", "softmax"], "the name 'softmax' is taken"),
        (["my_skeleton", "x"], "choose from"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
