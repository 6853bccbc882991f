import json
import re
from pathlib import Path

import pytest

from darts_gdas.report.comparison_page import _mean, _thinned, _words, comparison_page
from darts_gdas.report.record import find_records
from darts_gdas.report.run_page import write_report
from darts_gdas.report.runs import group_runs, read_run
from tests.pages import Page, assert_is_safe, chart_values, curves, dots, figures
from tests.report.test_run_page import EVIL, make_search
from tests.report.test_runs import RESULT, make_run

STYLE = re.compile(r"(?:glyph|line) (s\d)$")


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
        "The 4 of 8 runs that no other beats in both are on the line", "Not compared",
        "Most accurate (validation, shared weights): darts penalties.cost.target=9000",
    ):  # fmt: skip
        assert part in page.text
    found = figures(html)
    dots_title, accuracy_title, *_, trade_title = found
    assert dots_title == "Search: accuracy against method and settings"
    assert accuracy_title == "Accuracy, % (validation)"
    assert trade_title == "accuracy, % (validation, shared weights) against parameters"
    assert len(dots(found[trade_title])) == 8
    values = chart_values(html)[dots_title]
    assert [series["x"] for series in values["series"]] == [[g, g] for g in range(4)]
    assert values["series"][1]["y"] == [90, 91] and len(values["labels"]["x"]) == 4
    assert len(curves(found[accuracy_title])) == 4 * (1 + 2)  # a mean and two runs per group
    assert [y for _, y in curves(found[accuracy_title])[0]] == pytest.approx(
        [0, 5, 10, 15], abs=0.1
    )


def test_a_method_looks_the_same_in_every_chart(tmp_path: Path):
    """Searches of two methods, and retrainings of the second one's cell alone."""
    for method in ("darts", "gdas"):
        make_search(tmp_path / method, f"method={method}", metrics={"validation/accuracy": 0.8})
    source = str(tmp_path / "gdas")
    result = RESULT | {"kind": "train", "test": {"accuracy": 0.9}, "genotype_source": source}
    train = make_run(tmp_path / "train", result=result)
    (train / "metrics.jsonl").write_text('{"epoch": 0, "test/accuracy": 0.9}\n')
    styles = {
        title: [style for mark in figure.iter() if (style := STYLE.match(mark.get("class") or ""))]
        for title, figure in figures(page_of(tmp_path)[1]).items()
    }
    styles = {title: {style[1] for style in found} for title, found in styles.items()}
    assert styles["Retraining: accuracy against method and settings"] == {"s1"}
    assert styles["Accuracy, % (test)"] == {"s1"}
    assert styles["Search: accuracy against method and settings"] == {"s0", "s1"}


def test_what_is_drawn_upwards_can_be_chosen_even_where_all_are_level(tmp_path: Path):
    """The chooser shows what is drawn, so it must be among the columns."""
    for seed in (0, 1):
        measured = {"validation/accuracy": 0.1}
        make_search(
            tmp_path / "sweep" / str(seed), "method=darts", f"seed={seed}",
            metrics=measured, parameters=6000 + seed,
        )  # fmt: skip
    html = page_of(tmp_path / "sweep")[1]
    columns = chart_values(html)["Search: accuracy against method and settings"]["columns"]
    assert {*re.findall(r'data-upwards="(.*?)"', html)} == {"accuracy"}
    assert columns["accuracy"] == [10.0, 10.0] and "parameters" in columns
    assert "multiply-adds" not in columns  # level, and not drawn


def test_every_metric_and_every_setting_can_be_chosen(tmp_path: Path):
    page, html = page_of(make_sweep(tmp_path / "sweep"))
    values = chart_values(html)
    assert {"Temperature of the softmax", "Loss (train)", "Learning rate of the weights"} <= {
        *values
    }
    columns = values["Search: accuracy against method and settings"]["columns"]
    assert columns["penalties.cost.target"] == [6000.0] * 2 + [9000.0] * 2 + [6000.0] * 2 + (
        [9000.0] * 2
    )
    assert columns["accuracy"] == pytest.approx([80, 81, 90, 91, 70, 71, 85, 86])
    assert [a.get("data-choose") for _, a in page.elements if "data-choose" in a] == [
        "search: metric"
    ]


def test_every_dot_of_the_front_has_its_cell(tmp_path: Path):
    page, html = page_of(make_sweep(tmp_path / "sweep"))
    cells = {a.get("data-dot") for tag, a in page.elements if tag == "template"}
    assert cells == {f"{group}-{place}" for group in range(2) for place in range(4)}
    *_, trade = chart_values(html).values()
    assert [len(series["told"]) for series in trade["series"]] == [4, 4]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["gdas a=1", "gdas a=2"], ["1", "2"]),
        (["gdas a=1 b=2", "gdas a=2 b=2"], ["1", "2"]),
        (["darts", "gdas"], ["darts", "gdas"]),
        (["gdas", "gdas a=2"], ["gdas", "a=2"]),
        (["gdas"], ["gdas"]),
        ([f"gdas a=0.123456789{i}" for i in range(12)], [str(i + 1) for i in range(12)]),
    ],
)
def test_below_an_axis_stands_what_labels_differ_in(labels: list[str], words: list[str]):
    assert _words(labels) == words


def test_settings_of_several_orders_of_magnitude_are_drawn_by_them(tmp_path: Path):
    for i, rate in enumerate(("0.001", "0.01", "0.1")):
        accuracy = {"validation/accuracy": 0.5 + i / 10}
        make_search(tmp_path / str(i), f"optimizer.lr={rate}", f"seed={i}", metrics=accuracy)
    values = chart_values(page_of(tmp_path)[1])
    found = values["Search: accuracy against optimizer.lr"]
    assert found["x"] == "optimizer.lr" and found["powers"]
    assert found["series"][0]["x"] == pytest.approx([-3, -2, -1])
    assert found["series"][0]["told"][2].endswith("optimizer.lr 0.1, accuracy 70")
    assert "Search: accuracy against seed" not in values
    figure = figures(page_of(tmp_path)[1])["Search: accuracy against optimizer.lr"]
    ticks = [t.text for t in figure.iter("text") if t.get("class") == "tick x"]
    assert ticks == ["0.001", "0.01", "0.1"]


def test_long_curves_are_thinned_so_that_a_page_stays_small():
    curve = [(float(i), float(i)) for i in range(1001)]
    assert _thinned(curve, 2000) == curve
    thin = _thinned(curve, 100)
    assert len(thin) <= 101 and thin[0] == curve[0] and thin[-1] == curve[-1]


def test_the_mean_is_over_the_runs_that_got_so_far():
    assert _mean([[(1.0, 2.0), (2.0, 4.0)], [(1.0, 4.0)]]) == [(1.0, 3.0), (2.0, 4.0)]


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
    page, _ = page_of(tmp_path / "sweep")
    assert EVIL in page.text and page.count("i") == page.count("img") == 0


def test_retrainings_and_lone_runs_are_compared_too(tmp_path: Path):
    result = RESULT | {"kind": "train", "test": {"accuracy": 0.97}, "genotype_source": "PDARTS"}
    make_search(tmp_path / "a", **result)
    page, html = page_of(tmp_path)
    assert "PDARTS 1 97.00" in page.text
    assert "Retraining: accuracy against method and settings" in figures(html)
    assert "What accuracy costs" not in page.text


def test_known_accuracies_are_per_cent_already(tmp_path: Path):
    folder = make_search(tmp_path / "a", num_epochs=1)
    line = json.loads((folder / "metrics.jsonl").read_text())
    line["benchmark/accuracy"] = 93.5
    (folder / "metrics.jsonl").write_text(f"{json.dumps(line)}\n")
    _, html = page_of(tmp_path)
    (series,) = chart_values(html)["Known accuracy of the cell, %"]["series"]
    assert series["y"] == [93.5]
