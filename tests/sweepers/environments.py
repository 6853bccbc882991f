"""Interpreters that have what optimises: this one, or those that `up.sh` makes."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.tiny import TINY

ROOT = Path(__file__).parents[2]
SHORT = (*TINY, "epochs=1", "verbosity=quiet")


def python_with(package: str) -> str:
    """An interpreter with a package; the test is skipped if there is none."""
    made = Path(os.environ.get("DARTS_GDAS_SWEEPERS", "/nowhere"), package, "bin", "python")
    if made.exists():
        return str(made)
    try:
        version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed; tests/sweepers/up.sh FOLDER makes a place for it")
    return sys.executable


def start(
    folder: Path, python: str, *arguments: str, stdout: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [python, *arguments], cwd=folder, env=environment, text=True,
        stdout=stdout, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=1500)
    assert process.returncode == status, f"{out}\n{err}"
    return out, err
