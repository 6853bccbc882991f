"""`python -m darts_gdas.report`: on folders of runs, on wrong input, and in a browser."""

import html
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from darts_gdas.report.__main__ import main
from darts_gdas.report.run_page import write_report
from tests.pages import Page, browser
from tests.report.test_comparison_page import make_sweep
from tests.report.test_run_page import make_search
from tests.report.test_score_page import COLUMNS, make_ranking

GROUNDS = {"light": (0xF6, 0xF7, 0xF9), "dark": (0x11, 0x16, 0x1C)}


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

    monkeypatch.setattr("darts_gdas.report.__main__.write_report", interrupted)
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


def visit(page: Path, picture: Path, width: int, scheme: str) -> list[str]:
    """Take a picture of a page in a headless browser; returns the lines of its console."""
    program = browser()
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
    number = {"dark": 0, "light": 1}[scheme]  # blink's
    done = subprocess.run(
        [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--enable-logging=stderr", f"--user-data-dir={picture.parent / 'profile'}",
         f"--blink-settings=preferredColorScheme={number}", f"--window-size={width},2400",
         f"--screenshot={picture}", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("shown")
    sweep = make_sweep(root / "sweep")
    main([str(sweep)])
    run = make_search(root / "run", "method=darts", remarks={"warning": "a word " * 20})
    return {"run": write_report(run), "comparison": sweep / "report.html"}


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [("run", 360, "light"), ("run", 1400, "dark"), ("comparison", 360, "dark"),
     ("comparison", 1400, "light")],
)  # fmt: skip
def test_a_browser_shows_it_without_complaint(
    shown: dict[str, Path], tmp_path: Path, name: str, width: int, scheme: str
):
    picture = tmp_path / "page.png"
    assert visit(shown[name], picture, width, scheme) == []
    with Image.open(picture) as image:
        assert image.size == (width, 2400)
        assert image.convert("RGB").getpixel((2, 2)) == GROUNDS[scheme]
        assert len(image.convert("RGB").getcolors(2**24) or ()) > 50


FRAME = """<iframe width="360" height="900" style="border: 0" srcdoc="{page}"></iframe><script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument;
  const texts = [...page.querySelectorAll("svg text, p, td, li, dd, pre")];
  const heights = texts.map((text) => text.getBoundingClientRect().height || 99);
  const body = page.documentElement;
  console.log("measured", body.clientWidth, body.scrollWidth, Math.min(...heights));
}};
</script>"""


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_nothing_sticks_out_on_a_telephone_and_no_text_is_tiny(
    shown: dict[str, Path], tmp_path: Path, name: str
):
    """A window has 500 pixels at least, so the page is measured in a frame."""
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(page=html.escape(shown[name].read_text())))
    (line,) = visit(frame, tmp_path / "frame.png", 1400, "light")
    found = re.search(r"measured (\d+) (\d+) ([\d.]+)", line)
    assert found and (found[1], found[2]) == ("360", "360") and float(found[3]) > 9
