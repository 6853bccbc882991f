"""docs/add_a_*.md are true: their files run as a reader would start them, in so many lines."""

import json
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from darts_gdas.nets import DerivedNet
from darts_gdas.runtime.checkpoint import CheckpointError
from darts_gdas.space import Genotype
from tests.registries import parts_put_back

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TINY = ("epochs=1", "net.channels=2", "net.layers=3")
WORDS = {10: "ten", 14: "fourteen", 15: "fifteen", 16: "sixteen", 22: "twenty-two"}
WORDS |= {43: "forty-three"}
FILES = {
    "annealed": ("add_a_method", "a method", 0, 20),
    "gated": ("add_an_operation", "an operation", 0, 15),
    "wired": ("add_a_space", "a space", 0, 20),
    "even": ("add_a_skeleton", "a skeleton, and a space for it", 0, 45),
    "spread": ("add_a_score", "a score", 0, 10),
    "decided": ("add_a_penalty", "a penalty", 0, 15),
    "arrays": ("add_a_data_set", "a data set", 1, 25),
}
"""The file of each page: its page, what it is, which block of Python, and lines it may take."""


def text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


def source(name: str) -> str:
    """The file that a page tells to write."""
    page, _, number, _ = FILES[name]
    return blocks(page, "python")[number]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of the reader's."""
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr("darts_gdas.cli.export.largest_difference", lambda *_: 0.0)  # takes seconds
    yield tmp_path
    torch.set_num_threads(threads)
    for name in FILES:
        sys.modules.pop(name, None)


@pytest.fixture
def start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Starts a command of a page in this process, with tiny settings; says how it ended."""

    def start(command: str) -> int:
        python, script, *arguments = shlex.split(command)
        assert python == "python"
        if "search" in (script.removesuffix(".py"), arguments[0]) or "train" in arguments:
            arguments += (
                TINY if "dataset=arrays" in arguments else (*TINY, "dataset.test_fraction=0.9")
            )
            if "train" not in arguments and not any(a.startswith("method=") for a in arguments):
                arguments.append("method=gdas")  # the default scores 100 cells first
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with parts_put_back():
            try:
                runpy.run_path(script, run_name="__main__")
            except SystemExit as stop:
                return int(stop.code or 0)
        return 0

    return start


def run_page(name: str, start: Callable[[str], int]) -> None:
    """Writes the file of a page and starts every command of it."""
    Path(f"{name}.py").write_text(source(name))
    page = FILES[name][0]
    commands = [line for block in blocks(page, "bash") for line in block.splitlines()]
    assert commands
    for command in commands:
        assert start(command) == 0, command


def check(page: str, number: int) -> None:
    """Runs the block of Python that tests the part, or shows something."""
    with parts_put_back():
        exec(compile(blocks(page, "python")[number], f"docs/{page}.md", "exec"), {})


@pytest.mark.parametrize("name", FILES)
def test_a_part_takes_as_many_lines_as_the_pages_say(name: str):
    page, what, _, most = FILES[name]
    lines = [line for line in source(name).splitlines() if line.strip()]
    assert len(lines) <= most
    assert re.search(rf"^\| {what} \| {len(lines)} \|", text("extend"), re.MULTILINE)
    if page != "add_a_space":
        assert f"{WORDS[len(lines)]} lines" in " ".join(text(page).split())
    assert f"`{name}.py`, anywhere" in text(page)


def test_a_method_is_searched_with(folder: Path, start: Callable[[str], int]):
    run_page("annealed", start)
    assert start("python annealed.py search method=annealed run_dir=found") == 0
    assert Genotype.load(folder / "found").cells.keys() == {"normal", "reduce"}
    config = yaml.safe_load((folder / "found" / "config.yaml").read_text())
    assert config["relaxation"] == {"tau": {"start": 1.0, "end": 0.1}}
    assert config["arch_optimizer"]["lr"] == 6e-4
    curves = json.loads((folder / "found" / "metrics.jsonl").read_text().splitlines()[0])
    assert curves["search/tau"] == 1.0
    check("add_a_method", 1)


def test_an_operation_is_searched_retrained_shown_and_exported(
    folder: Path, start: Callable[[str], int], capsys: pytest.CaptureFixture[str]
):
    run_page("gated", start)
    config = yaml.safe_load((folder / "found" / "config.yaml").read_text())
    assert config["space"]["candidates"][-1] == "gated_conv"
    written = (folder / "trained" / "export" / "python" / "network.py").read_text()
    assert source("gated").split("\n\n\n")[1] in written


def test_the_built_in_programs_do_not_know_it(
    folder: Path, start: Callable[[str], int], capsys: pytest.CaptureFixture[str]
):
    shutil.copy(ROOT / "search.py", folder)
    shutil.copytree(ROOT / "conf", folder / "conf")
    assert start("python search.py space.candidates=[none,gated_conv]") == 2
    assert "space.candidates names unknown operations ['gated_conv']" in capsys.readouterr().err


def test_spaces_are_searched(folder: Path, start: Callable[[str], int]):
    shutil.copy(ROOT / "search.py", folder)
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "conf" / "space" / "narrow.yaml").write_text(blocks("add_a_space", "yaml")[0])
    run_page("wired", start)
    genotype = Genotype.load(folder / "found")
    normal, reduce = genotype.cells["normal"], genotype.cells["reduce"]
    assert [edge.source for edge in normal.nodes[2]] == [0, 1]
    assert [edge.op for edge in reduce.nodes[0]][1] == "dil_conv_3x3"
    assert start("python wired.py search space=wired space.num_nodes=3 run_dir=wide") == 0
    wide = Genotype.load(folder / "wide").cells["normal"]
    assert [len(node) for node in wide.nodes] == [2, 3, 4]  # all edges are kept


def test_a_skeleton_is_searched_retrained_shown_and_exported(
    folder: Path, start: Callable[[str], int]
):
    run_page("even", start)
    written = (folder / "trained" / "export" / "python" / "network.py").read_text()
    assert "class EvenCell(nn.Module):" in written
    assert Genotype.load(folder / "found").reductions == ()
    with pytest.raises(CheckpointError, match="unknown skeleton 'even'; known: darts, nasbench201"):
        DerivedNet.from_run(folder / "trained")  # here, where nobody has registered it


def test_the_python_example_of_spaces_says_the_truth(capsys: pytest.CaptureFixture[str]):
    check("add_a_space", 1)
    said = re.search(r"# (\d+)\n$", blocks("add_a_space", "python")[1])
    assert said is not None and capsys.readouterr().out.strip() == said[1]


def test_a_score_ranks_cells_and_begins_searches(folder: Path, start: Callable[[str], int]):
    run_page("spread", start)
    (table,) = (folder / "outputs" / "score").glob("*/scores.csv")
    columns = table.read_text().splitlines()[0].split(",")
    assert {"spread", "params", "macs"} <= set(columns)
    (found,) = (folder / "outputs" / "search").glob("*/warm_start.jsonl")
    scored = json.loads(found.read_text().splitlines()[-1])
    assert scored["numbers"].keys() == {"spread", "naswot"}


def test_a_penalty_is_tested_as_its_page_does(folder: Path):
    (folder / "decided.py").write_text(source("decided"))
    check("add_a_penalty", 1)


def test_a_penalty_presses_on_a_search(folder: Path, start: Callable[[str], int]):
    run_page("decided", start)
    (metrics,) = (folder / "outputs" / "search").glob("*/metrics.jsonl")
    assert any("decided" in name for name in json.loads(metrics.read_text().splitlines()[0]))
    (config,) = (folder / "outputs" / "search").glob("*/config.yaml")
    assert yaml.safe_load(config.read_text())["penalties"]["decided"] == {"weight": 2.0}


def test_a_data_set_is_searched_retrained_exported_and_ranked_on(
    folder: Path, start: Callable[[str], int], capsys: pytest.CaptureFixture[str]
):
    check("add_a_data_set", 0)
    run_page("arrays", start)
    card = json.loads((folder / "trained" / "export" / "torch" / "model_card.json").read_text())
    assert card["classes"] == ["plain", "striped"]
    assert card["data"] == {
        "name": "arrays",
        "root": "images.npz",
        "augment": card["data"]["augment"],
    }
    assert card["input"]["shape"] == ["batch", 1, 12, 12]
    capsys.readouterr()
    assert start("python arrays.py search dataset=arrays dataset.root=nowhere.npz") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: dataset.root=nowhere.npz cannot be read") and err.count("\n") == 1


def test_other_images_do_not_resume_a_run(
    folder: Path, start: Callable[[str], int], capsys: pytest.CaptureFixture[str]
):
    check("add_a_data_set", 0)
    (folder / "arrays.py").write_text(source("arrays"))
    assert start("python arrays.py search dataset=arrays run_dir=found") == 0
    (folder / "found" / "result.json").unlink()  # as if it had been killed before the end
    (folder / "images.npz").rename(folder / "moved.npz")
    moved = "python arrays.py search resume=found dataset=arrays dataset.root=moved.npz"
    assert start(moved) == 0
    (folder / "found" / "result.json").unlink()
    exec(blocks("add_a_data_set", "python")[0].replace("default_rng(0)", "default_rng(1)"), {})
    assert start("python arrays.py search resume=found dataset=arrays dataset.root=images.npz") == 2
    assert "made with other settings (data: " in capsys.readouterr().err
