"""`python -m darts_gdas.report`: on folders of runs, and on wrong input."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from darts_gdas.report.command import main
from darts_gdas.runtime.usage import end_if_unread
from tests.pages import Page
from tests.report.test_comparison_page import make_sweep
from tests.report.test_run_page import make_search
from tests.report.test_score_page import COLUMNS, make_ranking


def test_one_run_gets_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_search(tmp_path / "a")
    main([str(folder)])
    main([str(folder), "--out", str(tmp_path / "x.html")])
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n{tmp_path / 'x.html'}\n"
    assert (tmp_path / "x.html").read_text() == (folder / "report.html").read_text()


def test_it_runs_as_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = make_search(tmp_path / "a")
    monkeypatch.setattr(sys, "argv", ["report", str(folder)])
    monkeypatch.delitem(sys.modules, "darts_gdas.report.__main__", raising=False)
    runpy.run_module("darts_gdas.report", run_name="__main__")
    assert (folder / "report.html").exists()


def test_a_folder_of_runs_gets_a_page_for_each_and_one_for_all(tmp_path: Path):
    root = make_sweep(tmp_path / "sweep")
    make_ranking(root / "ranking", COLUMNS)
    main([str(root)])
    page = Page((root / "report.html").read_text())
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert len(links) == 10 and all((root / str(link)).exists() for link in links)
    assert "10 runs" in page.text and "runs 10 compared 8" in page.text


def test_several_runs_are_compared_in_a_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    first, second = make_search(tmp_path / "a"), make_search(tmp_path / "b", finished=False)
    (tmp_path / "b" / "config.yaml").write_text("a: [")
    main([str(first), str(second), str(first)])
    *_, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"outputs/report/[^/]+/report\.html", last)
    assert "2 runs" in Page(Path(last).read_text()).text


def test_ctrl_c_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("darts_gdas.report.command.write_report", interrupted)
    with pytest.raises(SystemExit) as stop:
        main([str(make_search(tmp_path / "a"))])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted; what is written is whole\n"


def test_a_damaged_result_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make_search(tmp_path / "a", "x=1")
    make_search(tmp_path / "b")
    (tmp_path / "b" / "config.yaml").write_text("a: [")
    main([str(tmp_path)])
    assert "cannot be read" in capsys.readouterr().err
    assert "compared 1" in Page((tmp_path / "report.html").read_text()).text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "is no folder; name run folders"),
        (["."], "is no run folder and holds none"),
        ([".", "--out", "no/x.html"], "there is no folder"),
    ],
)
def test_wrong_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and line.startswith("error: ") and message in line


def test_a_reader_that_has_read_enough_is_no_error(tmp_path: Path):
    """Of `report ... | head`: the pipe is closed before anything is printed."""
    folder = make_search(tmp_path / "a")
    call = [sys.executable, "-m", "darts_gdas", "report", str(folder)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (141, b"")


def test_a_broken_pipe_that_is_not_standard_output_is_told(capfd: pytest.CaptureFixture[str]):
    end_if_unread(BrokenPipeError("of a worker"))
    end_if_unread(OSError("of something else"))
