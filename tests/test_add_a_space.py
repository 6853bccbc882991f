"""docs/add_a_space.md is true: its files search and train, as a reader would start them."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from darts_gdas.nets import OPERATIONS
from darts_gdas.space import Genotype

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add_a_space.md").read_text(encoding="utf-8")
TINY = ("dataset.test_fraction=0.9", "epochs=1", "net.channels=2", "net.layers=3")


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)[number]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The reader's checkout; this process knows the operation no longer than the test."""
    before, threads = dict(OPERATIONS), torch.get_num_threads()
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "space" / "gated.yaml").write_text(block("yaml"))
    (tmp_path / "gated_search.py").write_text(block("python"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    OPERATIONS.clear()
    OPERATIONS.update(before)
    torch.set_num_threads(threads)


def run(script: Path, *arguments: str) -> int:
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_space_is_searched_and_its_cell_retrained(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", [])
    search = folder / "gated_search.py"
    assert run(search, "space=gated", *TINY, "method=darts", "run_dir=found") == 0
    genotype = Genotype.load(folder / "found")
    normal, reduce = genotype.cells["normal"], genotype.cells["reduce"]
    assert [edge.source for edge in normal.nodes[2]] == [0, 1]
    assert [edge.op for edge in reduce.nodes[0]][1] == "gated_conv"
    train = folder / "gated_train.py"
    text = search.read_text().replace("run_search", "run_train").replace('="search"', '="train"')
    train.write_text(text.replace('register_operation("gated_conv", GatedConv)\n', ""))
    assert run(train, "genotype=found", *TINY, "run_dir=trained") == 0
    (folder / "gated_export.py").write_text(block("python", 1))
    done = subprocess.run(
        [sys.executable, "gated_export.py", "trained", "--format", "python"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = (folder / "trained" / "export" / "python" / "network.py").read_text()
    assert block("python").split("\n\n\n")[1] in written


def test_the_built_in_program_does_not_know_the_operation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", [])
    shutil.copy(ROOT / "search.py", folder)
    assert run(folder / "search.py", "space=gated", *TINY) == 2
    message = "space.normal: space.candidates names unknown operations ['gated_conv']"
    assert message in capsys.readouterr().err


def test_the_python_example_says_the_truth(capsys: pytest.CaptureFixture[str]):
    example = block("python", 2)
    exec(compile(example, "docs/add_a_space.md", "exec"), {})
    said = re.search(r"# (\d+)\n$", example)
    assert said is not None and capsys.readouterr().out.strip() == said[1]
