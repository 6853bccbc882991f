"""The documentation is true: blocks run, links lead somewhere, names and settings exist."""

import functools
import importlib
import importlib.util
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import darts_gdas
from darts_gdas.config import GROUPS, SearchConfig, TrainConfig, register, typed
from darts_gdas.portable.bundle import Format
from darts_gdas.report.record import read_record
from darts_gdas.report.verdict import verdict
from tests.nets.test_stored import saved

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TOP = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
OURS = [
    DOCS / name
    for name in (
        "index.md",
        "start.md",
        "questions.md",
        "migration.md",
        "extend.md",
        "tune.md",
        *(f"add_a_{part}.md" for part in ("method", "space", "score", "penalty", "data_set")),
        "add_an_operation.md",
        *(f"how/{name}.md" for name in ("mixture", "gumbel", "bilevel", "ntk", "warm_start")),
        *(f"howto/{name}.md" for name in ("own_data", "curves", "collapse", "resume", "export")),
        *(f"howto/{name}.md" for name in ("retraining", "loggers")),
    )
]
TINY = ("dataset.test_fraction=0.9", "epochs=1", "net.channels=2", "net.layers=3")
NODES = "space.num_nodes=1"
PROGRAM = r"(?:\w+\.py|-m darts_gdas\.\w+)"
register()


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(path), re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```", "", text(path), flags=re.MULTILINE | re.DOTALL)


def inline_code(path: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(path))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_table_of_versions_is_that_of_the_package():
    """Every package that a user may install, with its bounds."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 does not have it")
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    wanted = [f"Python{project['requires-python']}", *project["dependencies"]]
    for name, packages in project["optional-dependencies"].items():
        wanted += packages if name not in ("dev", "docs", "browser") else []
    table = text(DOCS / "versions.md").partition("The versions that")[0]
    told = re.findall(r"([\w.-]+) (?:\| )?([<>=~]=?[\d.]+(?:,<[\d.]+)?)", table)
    assert sorted(set(wanted)) == sorted({"".join(pair) for pair in told})


# Links and places


def anchors(path: Path) -> set[str]:
    """Of the headings, as the site writes them."""
    titles = re.findall(r"^#+ +(.*)$", prose(path), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles]
    return {re.sub(r"[-\s]+", "-", title) for title in plain}


@pytest.mark.parametrize("page", [*PAGES, *TOP], ids=relative)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page)):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", [*PAGES, *TOP], ids=relative)
def test_files_that_are_named_exist(page: Path):
    pattern = r"(?:darts_gdas|conf|tests|benchmarks|docs)/[\w/.-]*\w/?"
    made_by_the_reader = {"conf/space/narrow.yaml"}
    for code in inline_code(page):
        if re.fullmatch(pattern, code) and code not in made_by_the_reader:
            assert (ROOT / code.replace("NAME", "gdas")).exists(), code


def test_the_site_has_a_place_for_every_page_of_ours():
    site = yaml.safe_load(text(ROOT / "mkdocs.yml"))

    def files(entry: object) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict | list):
            for part in entry.values() if isinstance(entry, dict) else entry:
                yield from files(part)

    named = set(files(site["nav"]))
    assert all((DOCS / name).exists() for name in named)
    assert {str(page.relative_to(DOCS)) for page in OURS} <= named
    assert site["theme"]["font"] is False  # else the pages fetch one
    assert "http" not in json.dumps({k: site[k] for k in ("plugins", "markdown_extensions")})


def test_pictures_are_small_and_stand_with_their_command():
    drawn = set(
        re.findall(r'^    "(\w+)": \1,$', text(DOCS / "pictures" / "draw.py"), re.MULTILINE)
    )
    for page in OURS:
        for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text(page)):
            file = (page.parent / picture).resolve()
            assert file.stat().st_size <= 100_000, file
            if page.parent.name == "how":
                assert f"`python docs/pictures/draw.py {file.stem}`" in text(page)
                drawn.remove(file.stem)
    assert not drawn


@pytest.mark.parametrize(("name", "word"), [("healthy", "settled"), ("collapsed", "collapsed")])
def test_the_example_pages_are_made_of_recorded_searches(tmp_path: Path, name: str, word: str):
    examples = runpy.run_path(str(DOCS / "examples.py"))
    examples["write_pages"](tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {*examples["SEARCHES"]}
    folder = DOCS / "examples" / name
    said = verdict(read_record(folder))
    assert said is not None and said.word == word
    html = (tmp_path / f"{name}.html").read_text()
    assert f"<b>{word}</b>" in html and f"examples/{name}.html" in text(DOCS / "howto/curves.md")
    methods = {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")}
    assert {*examples["SEARCHES"]} == {*methods, "healthy", "collapsed"}
    rows = re.findall(r"^\| `(\w+)` .*examples/(\w+)\.html", text(DOCS / "methods.md"), re.M)
    assert {*rows} == {(method, method) for method in methods}
    recorded = sum(path.stat().st_size for path in folder.iterdir())
    assert recorded < 100_000 and len(html) < 400_000


# The reference


@functools.cache
def written_pages() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("docs_reference", DOCS / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.mark.parametrize(
    "package", ["darts_gdas", "darts_gdas.search", "darts_gdas.ntk", "darts_gdas.extend"]
)
def test_every_public_name_is_in_the_reference(package: str):
    page = text(DOCS / "reference" / f"{package}.md")
    described = set(re.findall(r"^## (\w+)$", page, re.MULTILINE))
    assert described == set(importlib.import_module(package).__all__)
    index = text(DOCS / "reference" / "index.md")
    assert all(f"[`{name}`]({package}.md#{name.lower()})" in index for name in described)


def test_the_reference_is_what_its_program_writes():
    committed = {path.name: text(path) for path in (DOCS / "reference").glob("*.md")}
    assert committed == written_pages(), "run: python docs/reference.py"


# Settings


@functools.cache
def contexts() -> list[DictConfig]:
    """Compositions that between them have every setting."""
    roots = {
        "search": [
            ["dataset=cifar10", "penalties=[cost]"],
            ["dataset=image_folder", "warm_start=ntk"],
            *(
                [f"dataset={name}"]
                for name in ("torchvision", "medmnist", "huggingface", "webdataset", "npz")
            ),
            ["method=te_nas"],
            ["method=random_ws"],
        ],
        "train": [["optimizer/schedule=decay", "logger=[wandb,mlflow]"]],
        "score": [[]],
    }
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return [compose(root, list(each)) for root, several in roots.items() for each in several]


def is_setting(word: str) -> bool:
    """Whether a word `key=value` is a choice of a group, or a value of a setting."""
    key, _, value = word.lstrip("+").partition("=")
    names = {path.stem for path in (ROOT / "conf" / key).glob("*.yaml")} | set(GROUPS.get(key, ()))
    if names:
        return value == "[]" or set(value.strip("[]").split(",")) <= names
    return any(has(cfg, key) for cfg in contexts())


def has(cfg: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig):
        return False
    takes_any = node._get_node_flag("struct") is False  # such as dataset.options
    return name in list(node.keys()) or takes_any


def test_what_is_no_setting_is_known():
    assert is_setting("method=gdas") and is_setting("relaxation.tau.end=0.1")
    assert not is_setting("method=gdass") and not is_setting("relaxation.tau.stop=0.1")
    assert not is_setting("epoch=1") and not is_setting("optimizer.lr.x=1")


def settings(code: str) -> list[str]:
    """The words of a piece of code if all are `key=value`, or follow a program of ours."""
    words = [] if '"' in code else shlex.split(code)
    if words[:1] == ["python"]:
        words = [word for word in words if "=" in word and not word.startswith("--")]
    is_plain = all(re.fullmatch(r"\+?[a-z][\w./]*=\S+", word) for word in words)
    return [word for word in words if not word.startswith("hydra.")] if is_plain else []


@pytest.mark.parametrize("page", OURS, ids=relative)
def test_every_setting_exists(page: Path):
    codes = inline_code(page)
    if page.name == "migration.md":  # the left columns are other projects'
        rows = re.findall(r"^\| (.*) \|$", text(page), re.MULTILINE)
        codes = [c for row in rows for c in re.findall(r"`([^`]+)`", row.split(" | ", 1)[1])]
        assert len([code for code in codes if settings(code)]) > 60
    if page.name in ("own_data.md", "resume.md"):  # tables of settings
        codes += [f"{name}=x" for name in re.findall(r"^\| `([a-z_.]+)` \|", text(page), re.M)]
    words = [word for code in codes for word in settings(code)]
    assert [word for word in words if not is_setting(word)] == []


def commands(page: Path) -> list[str]:
    """Commands of our programs, in blocks and in the text."""
    found = [line for block in blocks(page, "bash") for line in block.splitlines()]
    found += [code for code in inline_code(page) if code.startswith("python ")]
    return [line for line in found if re.match(rf"python {PROGRAM}", line)]


@pytest.mark.parametrize("name", ["questions", "how/warm_start", "howto/collapse", "howto/resume"])
def test_commands_that_are_not_run_have_a_meaning(name: str):
    """With values checked, but for sweeps, of which the first value is taken."""
    page = DOCS / f"{name}.md"
    assert commands(page)
    for command in commands(page):
        program, *arguments = shlex.split(command)[1:]
        if program not in ("search.py", "train.py"):
            continue
        kind = SearchConfig if program == "search.py" else TrainConfig
        overrides = [a for a in arguments if "=" in a and not a.startswith("--")]
        if "-m" in arguments:
            overrides = [a if "[" in a else a.split(",")[0] for a in overrides]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            typed(compose(program.removesuffix(".py"), overrides), kind)


# Blocks that run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A reader's checkout, as far as the blocks need it."""
    threads = torch.get_num_threads()
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    for name in ("search.py", "train.py"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    torch.set_num_threads(threads)


def run_python(code: str, page: Path) -> None:
    exec(compile(code, relative(page), "exec"), {"__name__": "docs"})


def run_shell(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of a block, as a reader would run it, but with tiny settings."""
    if line.startswith("make "):
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        dry = ["make", "--dry-run", *shlex.split(line)[1:]]
        subprocess.run(dry, cwd=ROOT, env=env, check=True, capture_output=True)
        return
    if not line.startswith("python "):
        subprocess.run(line, shell=True, check=True, capture_output=True)
        return
    program, *arguments = shlex.split(line)[1:]
    is_module = program == "-m"
    if is_module:
        program, *arguments = arguments
    else:
        tiny = TINY[1:] if {"dataset=image_folder", "dataset=npz"} & {*arguments} else TINY
        replaced = {word.split("=")[0] for word in tiny}
        arguments = [a for a in arguments if a.split("=")[0] not in replaced] + list(tiny)
        arguments += [] if program == "train.py" else [NODES]
        if program == "search.py" and not any(a.startswith("method=") for a in arguments):
            arguments.append("method=gdas")  # the default scores 100 cells first
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    if is_module:
        for name in (program, f"{program}.__main__"):  # others may have imported them
            monkeypatch.delitem(sys.modules, name, raising=False)
        runpy.run_module(program, run_name="__main__")
    else:
        runpy.run_path(program, run_name="__main__")


def run_page(page: Path, monkeypatch: pytest.MonkeyPatch, *, languages: str) -> None:
    """All blocks in the order in which they stand."""
    found = re.findall(rf"^```({languages})\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)
    assert found
    for language, block in found:
        if language == "python":
            run_python(block, page)
        else:
            for line in block.splitlines():
                run_shell(line, monkeypatch)


def test_every_block_of_the_start_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", [])
    run_page(DOCS / "start.md", monkeypatch, languages="python|bash")
    files = {path.name for path in (folder / "outputs" / "search" / "first").iterdir()}
    told = re.findall(r"^\| (`.*?) \|", text(DOCS / "start.md"), re.MULTILINE)
    assert {name.strip("`/") for row in told for name in row.split(", ")} <= files


def test_images_of_ones_own_are_searched_and_retrained(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", [])
    run_page(DOCS / "howto" / "own_data.md", monkeypatch, languages="python|bash")
    assert list((folder / "outputs" / "train").glob("*/model.pt"))


def test_exports_are_used_as_the_page_says(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "RUN").mkdir()
    saved(folder / "RUN")
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("darts_gdas.cli.export.largest_difference", lambda *_: 0.0)  # takes seconds
    page = DOCS / "howto" / "export.md"
    (lines,) = blocks(page, "bash")
    for line in lines.splitlines():
        run_shell(line, monkeypatch)
    monkeypatch.setitem(sys.modules, "network", None)  # other tests import others by this name
    del sys.modules["network"]
    run_python("".join(blocks(page, "python")), page)
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text(page), re.MULTILINE)
    told = {form: tuple(re.findall(r"`(network\.\w+)`", files)) for form, files in rows}
    assert told == {form.value: form.files for form in Format}


@pytest.mark.parametrize(
    "page", [*(DOCS / "how").glob("*.md"), DOCS / "howto" / "collapse.md"], ids=relative
)
def test_the_python_of_a_page_is_true(page: Path):
    for block in blocks(page, "python"):
        run_python(block, page)


def test_the_curves_of_the_table_are_there(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", [])
    page = DOCS / "howto" / "curves.md"
    (command,) = (line for line in commands(page) if "diagnostics" in line)
    run_shell(f"{command} run_dir=measured", monkeypatch)
    curves = json.loads((folder / "measured" / "metrics.jsonl").read_text().splitlines()[-1])
    rows = re.findall(r"^\| (`.*?) \| ", text(page), re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert len(told) > 10 and told <= set(curves)


# What stands beside the pages


def test_the_citation_and_the_changelog_name_this_version():
    citation = yaml.safe_load(text(ROOT / "CITATION.cff"))
    assert citation["version"] == darts_gdas.__version__
    assert citation["license"] == "Apache-2.0"
    assert citation["authors"] == [{"name": "darts_gdas contributors"}]
    assert f"\n## {darts_gdas.__version__}" in text(ROOT / "CHANGELOG.md")


def test_the_newcomers_first_test_exists():
    (path,) = re.findall(r"-m pytest (\S+) -q", text(ROOT / "CONTRIBUTING.md"))
    assert (ROOT / path).exists()
    targets = re.findall(r"^make (\w+)", text(ROOT / "CONTRIBUTING.md"), re.MULTILINE)
    assert "docs" in targets
    assert all(f"\n{name}:" in text(ROOT / "Makefile") for name in targets)
