"""Pages in a headless Chromium: what a reader does with them, and what axe-core says of them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import write_run
from darts_gdas.report.command import main
from darts_gdas.report.page import document
from darts_gdas.report.run_page import write_report
from tests.pages import browser
from tests.report.test_alphas import LINES
from tests.report.test_comparison_page import make_sweep
from tests.report.test_run_page import make_search
from tests.report.test_runs import RESULT, make_run
from tests.report.test_score_page import COLUMNS, make_ranking

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    *("index", "start", "methods", "benchmarks", "reliability", "howto/curves"),
    *("reference/darts_gdas", "examples/healthy", "examples/collapsed"),
)
PAGES = ("search", "flat", "running", "train", "ranking", "comparison")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: pip install -e '.[browser]'"
    )
    program = browser()
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
    with playwright.sync_playwright() as run:
        started = run.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("shown")
    sweep = make_sweep(root / "sweep")
    main([str(sweep)])
    write_run(root / "search", 12, 0.5)
    write_run(root / "flat", 12, 1e-4)
    result = RESULT | {"kind": "train", "test": {"accuracy": 0.97}}
    train = make_run(root / "train", "epochs=2", result=result)
    (train / "metrics.jsonl").write_text(
        "".join(f'{{"epoch": {e}, "test/accuracy": 0.5, "train/loss": {e}.5}}\n' for e in range(2))
    )
    make_search(root / "running", finished=False)
    make_ranking(root / "ranking", COLUMNS)
    pages = {name: write_report(root / name) for name in PAGES if name != "comparison"}
    return pages | {"comparison": sweep / "report.html"}


def visit(chromium: Any, page: Path, **context: Any) -> tuple[Any, list[str]]:
    """The page, its charts drawn, and the lines of its console."""
    tab = chromium.new_context(**context).new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(page.as_uri())
    tab.wait_for_timeout(200)
    return tab, said


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `make docs` builds it."""
    pytest.importorskip("material", reason="no mkdocs-material: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=True)
    return folder


def violations(tab: Any) -> list[tuple[str, str, str]]:
    """What axe-core objects to: how bad, which rule, where."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe: pip install -e '.[browser]'"
    )
    found = axe.Axe().run(tab).response["violations"]
    return [(v["impact"], v["id"], v["nodes"][0]["html"]) for v in found]


SCREENS = pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1200, "dark")])


@SCREENS
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_and_nothing_sticks_out(
    chromium: Any, shown: dict[str, Path], name: str, width: int, scheme: str
):
    tab, said = visit(
        chromium, shown[name], color_scheme=scheme, bypass_csp=True,
        viewport={"width": width, "height": 900},
    )  # fmt: skip
    assert violations(tab) == [] and said == []
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    heights = "[...document.querySelectorAll('p, td, li, dd')].map(e => e.clientHeight || 99)"
    assert min(tab.evaluate(heights)) > 9


@SCREENS
@pytest.mark.parametrize("name", DOCUMENTS)
def test_axe_finds_nothing_serious_in_the_documentation(
    chromium: Any, site: Path, name: str, width: int, scheme: str
):
    tab, _ = visit(
        chromium, site / f"{name}.html", color_scheme=scheme, bypass_csp=True,
        viewport={"width": width, "height": 900},
    )  # fmt: skip
    tab.wait_for_timeout(500)  # the theme's own script has marked what can be scrolled
    assert [found for found in violations(tab) if found[0] in ("serious", "critical")] == []
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_the_slider_moves_cell_heat_map_and_cursors_together(chromium: Any, shown: dict[str, Path]):
    tab, said = visit(chromium, shown["search"])
    drawn = "() => [...document.querySelectorAll('.kind .edge .op')].map(e => e.textContent)"
    shades = "() => [...document.querySelectorAll('.heat .shade')].map(e => e.textContent)"
    before = tab.evaluate(drawn), tab.evaluate(shades)
    tab.locator("#epoch").focus()
    for _ in range(8):
        tab.keyboard.press("ArrowLeft")
    assert tab.locator(".slider output").text_content() == "4"
    told = tab.locator("figcaption output").all_text_contents()
    assert len(told) > 10 and set(told) == {"epoch 4"}
    after = tab.evaluate(drawn), tab.evaluate(shades)
    assert before[0] != after[0] and before[1] != after[1]
    tab.keyboard.press("End")
    assert (tab.evaluate(drawn), tab.evaluate(shades)) == before and said == []


def test_the_slider_shows_what_the_run_recorded(chromium: Any, tmp_path: Path):
    """Epoch 2 of the known lines: a convolution is drawn, its probability is 60 %."""
    import json

    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in LINES))
    tab, _ = visit(chromium, write_report(tmp_path))
    tab.locator("#epoch").focus()
    for _ in range(2):
        tab.keyboard.press("ArrowLeft")
    assert tab.locator(".edge[data-edge='c_k-2->0'] .op").text_content() == "sep conv 3\u00d73"
    row = tab.locator(".heat tbody tr").first.locator(".shade")
    assert row.all_text_contents() == ["20.00", "20.00", "60.00"]


def test_pointing_reads_values_and_dragging_enlarges(chromium: Any, shown: dict[str, Path]):
    tab, said = visit(chromium, shown["search"], viewport={"width": 1200, "height": 900})
    figure = tab.locator("figure.chart", has_text="Loss").first
    figure.scroll_into_view_if_needed()
    box = figure.locator(".u-over").bounding_box()
    values = "f => [...f.querySelectorAll('.legend b')].map(e => e.textContent)"
    last = figure.evaluate(values)
    tab.mouse.move(box["x"] + 2, box["y"] + 40)
    assert figure.locator("output").text_content() == "epoch 1"
    assert figure.evaluate(values) != last
    axis = "() => document.querySelectorAll('canvas')[0].toDataURL()"
    whole = tab.evaluate(axis)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 100, box["y"] + 42, steps=4)
    tab.mouse.up()
    tab.wait_for_timeout(50)
    assert tab.evaluate(axis) != whole  # all charts over the epochs are enlarged alike
    tab.mouse.dblclick(box["x"] + 50, box["y"] + 40)
    tab.mouse.move(2, 2)
    tab.wait_for_timeout(50)
    assert figure.evaluate(values) == last and said == []


def test_a_name_in_a_legend_hides_its_curve_by_keyboard_too(chromium: Any, shown: dict[str, Path]):
    tab, _ = visit(chromium, shown["search"])
    figure = tab.locator("figure.chart", has_text="Loss").first
    figure.scroll_into_view_if_needed()
    pixels = "f => f.querySelector('canvas').toDataURL()"
    before, button = figure.evaluate(pixels), figure.locator(".legend button").first
    button.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_timeout(50)
    assert button.get_attribute("aria-pressed") == "false" and figure.evaluate(pixels) != before


def test_runs_metrics_and_axes_are_chosen_and_a_dot_shows_its_cell(
    chromium: Any, shown: dict[str, Path]
):
    tab, said = visit(chromium, shown["comparison"], viewport={"width": 1200, "height": 900})
    metrics = tab.locator("[data-choose]")
    metrics.locator("select").select_option(label="Temperature of the softmax")
    assert (
        metrics.locator("figure:visible figcaption").text_content() == "Temperature of the softmax "
    )
    metrics.locator("figure:visible .legend button").first.click()
    metrics.locator("select").select_option(label="Loss (train)")
    hidden = metrics.locator("figure:visible .legend button").first
    assert hidden.get_attribute("aria-pressed") == "false"  # the run is hidden in all metrics
    scatter = tab.locator("figure.chart", has_text="accuracy against").first
    scatter.locator("select").first.select_option(label="penalties.cost.target")
    assert "accuracy against penalties.cost.target" in scatter.locator("figcaption").text_content()
    front = tab.locator("section", has_text="What accuracy costs").last
    front.scroll_into_view_if_needed()
    box = front.locator(".u-over").bounding_box()
    for x in range(4, int(box["width"]), 6):  # along the upper right, where the best one lies
        tab.mouse.move(box["x"] + x, box["y"] + 16)
        if front.locator(".pointed svg").count():
            break
    assert front.locator(".pointed svg").count() == 2  # normal and reduce
    assert re.search(r"target .*: darts, seed", front.locator("output").text_content()) and not said


def test_a_running_page_reads_itself_again_and_keeps_the_readers_place(
    chromium: Any, shown: dict[str, Path]
):
    text = shown["running"].read_text()
    assert 'data-refresh="10"' in text and "data-refresh" not in shown["search"].read_text()
    hurried = shown["running"].with_name("hurried.html")
    hurried.write_text(text.replace('data-refresh="10"', 'data-refresh="1"'))
    tab, said = visit(chromium, hurried, viewport={"width": 800, "height": 500})
    tab.locator("#epoch").focus()
    tab.keyboard.press("ArrowLeft")
    tab.evaluate("scrollTo(0, 700)")
    with tab.expect_navigation():
        pass
    tab.wait_for_timeout(300)
    assert tab.locator(".slider output").text_content() == "3"
    assert tab.evaluate("scrollY") == 700 and said == []


def test_without_scripts_and_on_paper_static_pictures_stand_there(
    chromium: Any, shown: dict[str, Path]
):
    count = "() => [...document.querySelectorAll('.static')].filter(e => e.clientWidth > 0).length"
    plain, _ = visit(chromium, shown["search"], java_script_enabled=False)
    assert plain.locator(".static:visible").count() > 10
    assert plain.locator(".slider:visible").count() == plain.locator("canvas").count() == 0
    tab, _ = visit(chromium, shown["search"])
    assert tab.evaluate(count) == 0
    tab.emulate_media(media="print")
    assert tab.evaluate(count) > 10 and tab.locator("canvas:visible").count() == 0


def test_what_runs_say_cannot_run(chromium: Any, tmp_path: Path):
    """The policy stops a script that got into a page in spite of everything."""
    page = tmp_path / "x.html"
    page.write_text(document("x").replace("<main>", "<main><script>window.evil = 1</script>"))
    tab, said = visit(chromium, page)
    assert tab.evaluate("window.evil") is None and "Content Security Policy" in said[0]
