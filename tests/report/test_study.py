"""What the page of a study says of it."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from darts_gdas.report.command import main
from darts_gdas.report.comparison_page import write_comparison
from darts_gdas.report.record import find_records
from darts_gdas.report.study import SUMMARY, StudySummary, TrialSummary
from tests.pages import Page, assert_is_safe, chart_values, dots, figures
from tests.report.test_run_page import EVIL, make_search

RATES = ("0.08952924829615638", "0.031799742569777474", "0.0489079510267589", "0.009123456789")


def study_of(*best: TrialSummary, objectives: tuple[str, ...] = ("validation_accuracy",)):
    directions = ("maximize", "minimize")[: len(objectives)]
    varied = {"optimizer.lr": "0.01 to 0.1"}
    counts = {"complete": 3, "pruned": 1}
    return StudySummary(objectives, directions, counts, varied, ("epochs=2", EVIL), best)


BEST = TrialSummary("0002", (0.81234567,), {"optimizer.lr": RATES[2]})


def test_the_facts_name_the_objective_and_the_best_trial():
    study = study_of(BEST)
    assert study.title == "Study of optimizer.lr: 4 trials"
    assert study.facts() == {
        "objective": "validation_accuracy (more is better)",
        "trials": "3 complete, 1 pruned",
        "best trial": "0002: validation_accuracy 0.8123; optimizer.lr=0.04891",
        "varied": "optimizer.lr: 0.01 to 0.1",
        "settings of all": f"epochs=2 {EVIL}",
    }


def test_a_front_has_a_line_of_its_own():
    trials = [TrialSummary(f"000{i}", (0.5 + i, 1000.0 + i), {"a": str(i)}) for i in range(2)]
    facts = study_of(*trials, objectives=("validation_accuracy", "parameters")).facts()
    assert facts["objective"].endswith("parameters (less is better)")
    assert facts["trials that no other beats in all"] == (
        "0000: validation_accuracy 0.5, parameters 1000; a=0 | "
        "0001: validation_accuracy 1.5, parameters 1001; a=1"
    )


@pytest.fixture
def html(tmp_path: Path) -> str:
    for i, rate in enumerate(RATES):
        measured = {"validation/accuracy": 0.5 + i / 10}
        said = ("method=gdas", f"optimizer.lr={rate}")
        folder = make_search(tmp_path / f"{i:04d}", *said, metrics=measured)
        (folder / "config.yaml").write_text(json.dumps({"optimizer": {"lr": float(rate)}}))
    write_comparison(find_records(tmp_path), tmp_path / "report.html", study_of(BEST))
    return (tmp_path / "report.html").read_text()


def test_its_page_is_written_once_more_without_the_study(html: str, tmp_path: Path):
    assert StudySummary.of(tmp_path) is None
    study_of(BEST).save(tmp_path)
    main([str(tmp_path)])  # the runs have pages then, too
    written = (tmp_path / "report.html").read_text()
    write_comparison(find_records(tmp_path), tmp_path / "report.html", study_of(BEST))
    assert written == (tmp_path / "report.html").read_text() != html


def test_a_damaged_summary_is_one_line(tmp_path: Path):
    (tmp_path / SUMMARY).write_text('{"best": [{"run": "0002"}]}')
    with pytest.raises(ValueError, match=r"study\.json is damaged: .*missing.*tune again"):
        StudySummary.of(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("objectives", 5, "a list is something else"),
        ("settings", [], "a table is something else"),
        ("counts", [], "a table is something else"),
        ("counts", {"complete": "3"}, "a number is something else"),
        ("directions", [], "do not belong together"),
        ("directions", ["up"], "do not belong together"),
        ("values", [0.5, 1.0], "do not belong together"),
    ],
)
def test_values_of_other_kinds_are_one_line(tmp_path: Path, name: str, value: Any, message: str):
    study_of(BEST).save(tmp_path)
    found = json.loads((tmp_path / SUMMARY).read_text())
    (found["best"][0] if name in found["best"][0] else found)[name] = value
    (tmp_path / SUMMARY).write_text(json.dumps(found))
    with pytest.raises(ValueError, match=rf"study\.json is damaged: .*{message}.*tune again"):
        StudySummary.of(tmp_path)


def test_the_page_of_a_study_says_what_it_is(html: str):
    page = Page(html)
    assert_is_safe(page)
    assert "Study of optimizer.lr: 4 trials" in page.text and "4 runs" not in page.text
    assert "best trial : 0002: validation_accuracy 0.8123; optimizer.lr=0.04891" in page.text
    assert "optimizer.lr=0.04890" not in page.text and "gdas optimizer.lr=0.04891" in page.text


def test_a_range_that_is_even_over_orders_of_magnitude_is_drawn_so(html: str, tmp_path: Path):
    """Whatever it spans; the axis says the numbers."""
    study = replace(study_of(BEST), even=("optimizer.lr",))
    write_comparison(find_records(tmp_path), tmp_path / "report.html", study)
    page = (tmp_path / "report.html").read_text()
    title = "Search: accuracy against optimizer.lr"
    found = chart_values(page)[title]
    assert found["powers"] and found["series"][0]["x"] == pytest.approx(
        [math.log10(float(rate)) for rate in RATES], abs=1e-3
    )
    ticks = [t.text for t in figures(page)[title].iter("text") if t.get("class") == "tick x"]
    assert ticks == ["0.01", "0.02", "0.05", "0.1"]


def test_trials_are_told_apart_and_lie_over_what_was_varied(html: str):
    values = chart_values(html)
    words = ["0.08953", "0.0318", "0.04891", "0.009123"]
    assert values["Search: accuracy against method and settings"]["labels"]["x"] == words
    against = values["Search: accuracy against optimizer.lr"]
    assert against["x"] == "optimizer.lr"
    assert "powers" not in against  # less than ten times the smallest
    assert against["series"][0]["x"] == pytest.approx([float(rate) for rate in RATES], rel=1e-4)
    assert against["series"][0]["y"] == [50, 60, 70, 80]
    assert len(dots(figures(html)["Search: accuracy against optimizer.lr"])) == 4
