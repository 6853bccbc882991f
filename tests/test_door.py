"""Ctrl-C while a program imports its packages."""

import ast
import platform
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


FAULTS = """
import resource
from darts_gdas.door import importing
with importing(NAME):
    pass
for step in range(12):
    if step == 2:  # what is new has come
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(b"x") * 2**22 for _ in range(8)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_program_keeps_the_memory_that_it_frees_and_a_library_does_not(monkeypatch):
    """Ten steps of 32 MiB are some 80,000 pages, each of them a fault where they come anew."""

    def faults(name: str) -> int:
        command = [sys.executable, "-c", FAULTS.replace("NAME", repr(name))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("__main__") < 8000 < faults("search")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")  # who has said so is not overruled
    assert faults("__main__") > 8000
