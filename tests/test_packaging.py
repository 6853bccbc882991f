"""The wheel, installed in an environment of its own, does what a checkout does."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import tiny

ROOT = Path(__file__).parents[1]
TINY = (*tiny.TINY, "epochs=1")


def run(*command: str | Path, folder: Path) -> str:
    """Output of a command that sees no checkout; both streams, for the message of a failure."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    run(*command, folder=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with the wheel; it borrows only the dependencies."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(place)}))
    programs = place / "bin"
    pip = (sys.executable, "-m", "pip", "--python", programs / "python", "install", "--no-deps")
    run(*pip, "--quiet", "--no-index", wheel, folder=place)
    # A path file of a path file is not read, so this checkout's own installation stays unseen.
    borrowed = sysconfig.get_path("purelib")
    (packages / "borrowed.pth").write_text(f"{borrowed}\n")
    return programs


def test_the_wheel_holds_package_and_configuration_and_nothing_else(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"darts_gdas", next(t for t in tops if t.endswith(".dist-info"))}
    here = {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")}
    assert {name.removeprefix("darts_gdas/") for name in names if name.endswith(".yaml")} == here
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "darts_gdas").rglob("*.py")}
    assert modules <= set(names)


def locked(line: str) -> Requirement:
    return Requirement(line.removesuffix("\\"))


def _is_locked(asked: Requirement) -> bool:
    """Whether a plain installation, or one with the extras that `make lock` names, has it."""
    extras = ("", "dev", "export", "slurm")
    return asked.marker is None or any(asked.marker.evaluate({"extra": e}) for e in extras)


def test_the_lock_holds_what_was_tested_and_names_no_place():
    """`make lock` writes it; here nothing is asked of an index."""
    text = (ROOT / "lock.txt").read_text()
    assert "://" not in text and "index" not in text
    blocks = re.split(r"\n(?=[a-z])", text.partition("\n#    make lock\n")[2])
    held = [locked(block.splitlines()[0]) for block in blocks]
    assert all("--hash=sha256:" in block for block in blocks)
    asked = map(Requirement, metadata.requires("darts-gdas") or [])
    further = {canonicalize_name(one.name) for one in asked if not _is_locked(one)}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        tested = Requirement(line)
        mine = [
            one for one in held if canonicalize_name(one.name) == canonicalize_name(tested.name)
        ]
        assert mine or canonicalize_name(tested.name) in further, line
        assert not mine or tested.specifier in [one.specifier for one in mine], line


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.13"])
def test_the_lock_meets_the_bounds_on_every_python(python: str):
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    held = {}
    for line in re.findall(r"^[a-z][^\\\n]*", (ROOT / "lock.txt").read_text(), re.M):
        one = locked(line)
        if one.marker is None or one.marker.evaluate(environment):
            held[canonicalize_name(one.name)] = str(one.specifier).removeprefix("==")
    for text in metadata.requires("darts-gdas") or []:
        asked = Requirement(text)
        if asked.marker is None:
            assert asked.specifier.contains(held[canonicalize_name(asked.name)]), text


@pytest.mark.parametrize("version", ["1.4.0rc3", "1.4.0", "1.4.0.dev10"])
def test_hydra_s_release_candidates_are_kept_out(version: str):
    (line,) = re.findall(r'"(hydra-core[^"]*)"', (ROOT / "pyproject.toml").read_text())
    assert not Requirement(line).specifier.contains(version, prereleases=True)
    assert Requirement(line).specifier.contains("1.3.8")


def test_it_is_the_installed_package_that_runs(installed: Path, tmp_path: Path):
    code = "import darts_gdas, pathlib; print(pathlib.Path(darts_gdas.__file__).parents[4])"
    assert Path(run(installed / "python", "-c", code, folder=tmp_path).strip()) == installed.parent


def test_searched_and_compared_far_from_any_checkout(installed: Path, tmp_path: Path):
    command = installed / "darts-gdas"
    out = run(command, "search", *TINY, folder=tmp_path)
    assert "Search finished" in out and "darts-gdas train genotype=outputs/search/" in out
    out = run(command, "compare", "outputs/search", folder=tmp_path)
    assert "gdas" in out
