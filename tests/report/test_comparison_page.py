import json
from pathlib import Path

import pytest

from darts_gdas.report.comparison_page import comparison_page
from darts_gdas.report.record import find_records
from darts_gdas.report.run_page import write_report
from darts_gdas.report.runs import group_runs, read_run
from tests.pages import Page, assert_is_safe, curves, figures
from tests.report.test_run_page import EVIL, make_search
from tests.report.test_runs import RESULT


def make_sweep(root: Path) -> Path:
    """Two methods with two seeds each at two costs, and a run that is cut."""
    found = [("darts", 6000, 0.8), ("darts", 9000, 0.9), ("gdas", 6000, 0.7), ("gdas", 9000, 0.85)]
    for number, (method, target, accuracy) in enumerate(found):
        for seed in (0, 1):
            measured = {"validation/accuracy": accuracy + seed / 100}
            folder = make_search(
                root / str(2 * number + seed),
                f"method={method}", f"seed={seed}", f"penalties.cost.target={target}",
                metrics=measured, parameters=target - 100 * (method == "gdas") - seed,
            )  # fmt: skip
            cost = {"cost": {"quantity": "parameters", "target": target}}
            (folder / "config.yaml").write_text(json.dumps({"seed": seed, "penalties": cost}))
    make_search(root / "8", "method=snas", finished=False)
    return root


def page_of(root: Path) -> tuple[Page, str]:
    records = find_records(root)
    folders = [record.folder for record in records if record.result]
    runs = [read_run(folder) for folder in folders]
    html = comparison_page(group_runs(runs), records, out=root / "report.html")
    page = Page(html)
    assert_is_safe(page)
    return page, html


def test_a_sweep_is_compared_over_methods_and_seeds(tmp_path: Path):
    page, html = page_of(make_sweep(tmp_path / "sweep"))
    for part in (
        "9 runs", "runs 9 compared 8", "darts penalties.cost.target=6000 2 80.50 +- 0.71",
        "Ringed: the 4 of 8 runs that no other beats in both.", "Not compared",
    ):  # fmt: skip
        assert part in page.text
    found = figures(html)
    assert list(found) == [
        "accuracy, % (validation, shared weights)", "parameters (search)",
        "Search, accuracy, % (validation, shared weights)",
        "accuracy, % (validation, shared weights) against parameters",
    ]  # fmt: skip
    strip, _, over_epochs, pareto = found.values()
    assert len(list(strip.iter("circle"))) == 8
    assert len(curves(over_epochs)) == 4
    assert [y for _, y in curves(over_epochs)[0]] == pytest.approx([0, 5, 10, 15], abs=0.05)
    rings = [dot for dot in pareto.iter("circle") if dot.get("class") == "dot ring"]
    assert len(rings) == 4 and len(list(pareto.iter("circle"))) == 8 + 4


def test_runs_with_a_page_are_linked_from_where_the_page_lies(tmp_path: Path):
    root = make_sweep(tmp_path / "sweep")
    make_search(root / "a b:#%", "method=random")
    write_report(root / "a b:#%")
    page, _ = page_of(root)
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links == ["a%20b%3A%23%25/report.html"]


def test_nothing_that_runs_say_becomes_markup(tmp_path: Path):
    for seed in (0, 1):
        make_search(tmp_path / "sweep" / f"<i>{seed}", f"method={EVIL}", f"a{seed}={EVIL}")
    make_search(tmp_path / "sweep" / "<i>cut", EVIL, finished=False)
    page, html = page_of(tmp_path / "sweep")
    assert EVIL in page.text and "<script" not in html and page.count("i") <= html.count("swatch")


def test_retrainings_and_lone_runs_are_compared_too(tmp_path: Path):
    result = RESULT | {"kind": "train", "test": {"accuracy": 0.97}, "genotype_source": "PDARTS"}
    make_search(tmp_path / "a", **result)
    page, html = page_of(tmp_path)
    assert "PDARTS 1 97.00" in page.text
    assert "accuracy, % (test)" in figures(html) and "What accuracy costs" not in page.text
