"""The console command: names of programs, and where their configuration lies."""

import sys
from pathlib import Path

import pytest

from darts_gdas import __version__
from darts_gdas.cli import main as module
from darts_gdas.cli.arguments import as_meant, take_arguments
from darts_gdas.config import conf_folder
from darts_gdas.runtime.launch import command


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/darts-gdas", *arguments])
    module.main()


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_every_program(monkeypatch, capsys, arguments: tuple[str, ...]):
    run(monkeypatch, *arguments)
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in {**module.HYDRA, **module.PLAIN})


def test_the_version_is_that_of_the_package(monkeypatch, capsys):
    run(monkeypatch, "--version")
    assert capsys.readouterr().out == f"darts-gdas {__version__}\n"


def test_an_unknown_program_is_one_line(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "serach")
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.count("\n") == 1
    assert "no program 'serach'; choose one of search, train, score" in err


def test_a_program_gets_what_follows_its_name(monkeypatch):
    seen = []
    monkeypatch.setattr("darts_gdas.cli.compare.main", lambda: seen.append(sys.argv[1:]))
    run(monkeypatch, "compare", "outputs", "--out", "here")
    assert seen == [["outputs", "--out", "here"]]


def test_a_search_is_configured_from_any_folder(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr("darts_gdas.cli.programs.run_search", seen.append)
    run(monkeypatch, "search", "method=darts", "seed=5")
    assert seen[0].seed == 5 and seen[0].order.name == "arch_first"
    assert (conf_folder() / "method" / "darts.yaml").is_file()


@pytest.mark.parametrize(
    ("program", "installed", "checkout"),
    [
        ("train", "darts-gdas train", "python train.py"),
        ("score", "darts-gdas score", "python -m darts_gdas.score"),
    ],
)
def test_hints_are_in_the_words_of_the_start(monkeypatch, program, installed, checkout):
    monkeypatch.setattr(sys, "argv", ["/opt/bin/darts-gdas", program])
    assert command(program) == installed
    monkeypatch.setattr(sys, "argv", ["search.py"])
    assert command(program) == checkout


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("dataset.root=photos (new)", "dataset.root='photos (new)'"),
        ("dataset.root=\u65e5\u672c", "dataset.root='\u65e5\u672c'"),
        ("dataset.root=~/x", "dataset.root='~/x'"),
        ("run_dir=a=b", "run_dir='a=b'"),
        ("seed=3", "seed=3"),
        ("dataset.root='a (b)'", "dataset.root='a (b)'"),
        ("seed=0,1", "seed=0,1"),
        ("penalties=[cost", "penalties=[cost"),
        ("--multirun", "--multirun"),
    ],
)
def test_what_hydra_cannot_read_gets_the_quotes_it_needs(typed: str, meant: str):
    assert as_meant(typed) == meant
    assert as_meant(meant) == meant


def test_what_was_quoted_is_said(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["search.py", "seed=3", "dataset.root=a (b)"])
    take_arguments("search")
    assert sys.argv == ["search.py", "seed=3", "dataset.root='a (b)'"]
    assert capsys.readouterr().err == "note: quoted for hydra: \"dataset.root='a (b)'\"\n"
    take_arguments("search")
    assert capsys.readouterr().err == ""
