"""Ctrl-C while a program imports its packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAINS = (ROOT / "darts_gdas").glob("*/__main__.py")
DOORS = [ROOT / "search.py", ROOT / "train.py", *(ROOT / "darts_gdas").glob("*.py"), *MAINS]
DOORS = [path for path in DOORS if '"__main__":' in path.read_text()]
INTERRUPTED = """
import os, signal, sys
from darts_gdas.door import importing
assert not {"torch", "hydra", "numpy"} & sys.modules.keys()
with importing(NAME):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        print("lost", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("__main__", 130, "interrupted; nothing was begun, and nothing is kept\n"),
        ("search", 0, "lost\n"),  # a module: its importer decides
    ],
)
def test_ctrl_c_among_imports_is_one_line_that_nothing_can_swallow(name, status, told):
    code = INTERRUPTED.replace("NAME", repr(name))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, told)


@pytest.mark.parametrize("path", DOORS, ids=lambda path: path.name)
def test_every_program_imports_behind_the_door(path: Path):
    first, *others = [node for node in ast.parse(path.read_text()).body[1:]]
    assert ast.unparse(first) == "from darts_gdas.door import importing"
    assert ast.unparse(others[0]).startswith("with importing(__name__):\n")
    assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in others)
