import csv
import io
import statistics
from pathlib import Path

import pytest

from darts_gdas.report.columns import table_lines
from darts_gdas.report.comparison import (
    comparison_table,
    draw_comparison,
    groups_csv,
    panels_of,
    runs_csv,
    spread,
)
from darts_gdas.report.runs import ACCURACY, BENCHMARK, PARAMETERS, Group, Run


def group_of(label: str, *measures: dict[str, float], kind: str = "search") -> Group:
    runs = [
        Run(Path(f"{label}/{seed}"), kind, label, {}, {}, seed, each)
        for seed, each in enumerate(measures)
    ]
    return Group(label, kind, tuple(runs))


GROUPS = [
    group_of("darts", {ACCURACY: 90.0, PARAMETERS: 1000}, {ACCURACY: 94.0, PARAMETERS: 3000}),
    group_of("random", {PARAMETERS: 20_000_000}),
]


def test_mean_and_sample_deviation():
    """(90, 94): 92 and sqrt(((-2)^2 + 2^2) / 1) = sqrt(8)."""
    assert spread([90.0, 94.0]) == (92.0, pytest.approx(8**0.5))
    assert spread([5.0]) == (5.0, None) and spread([]) == (None, None)


def test_the_table_shows_what_there_is():
    header, _, first, second = table_lines(*comparison_table(GROUPS))
    assert header.split() == ["method", "runs", "accuracy", "%", "parameters"]
    assert first.split() == ["darts", "2", "92.00", "+-", "2.83", "2,000", "+-", "1,414"]
    assert second.split() == ["random", "1", "-", "20.0", "M"]


def test_the_csv_files_hold_every_group_and_every_run():
    groups = list(csv.DictReader(io.StringIO(groups_csv(GROUPS))))
    runs = list(csv.DictReader(io.StringIO(runs_csv(GROUPS))))
    assert [row["method"] for row in groups] == ["darts", "random"]
    assert [(row["method"], row["seed"]) for row in runs] == [
        ("darts", "0"), ("darts", "1"), ("random", "0"),
    ]  # fmt: skip
    of_darts = [float(row[PARAMETERS]) for row in runs if row["method"] == "darts"]
    assert float(groups[0]["parameters mean"]) == statistics.fmean(of_darts)
    assert float(groups[0]["parameters standard deviation"]) == statistics.stdev(of_darts)
    assert groups[1]["accuracy mean"] == groups[1]["parameters standard deviation"] == ""
    assert runs[2]["folder"] == "random/0" and runs[2][ACCURACY] == ""


def test_every_run_is_a_dot_and_every_group_a_bar_at_its_mean():
    known = group_of("gdas", {ACCURACY: 80.0, BENCHMARK: 93.0})
    retrained = group_of("DARTS_V2", {ACCURACY: 97.0}, kind="train")
    panels = panels_of([*GROUPS, known, retrained])
    assert list(panels) == [
        "accuracy, % (validation, shared weights)", "benchmark accuracy, % (search)",
        "parameters (search)", "accuracy, % (test)",
    ]  # fmt: skip
    figure = draw_comparison(panels)
    for axes, (title, groups) in zip(figure.axes, panels.items(), strict=True):
        assert axes.get_xlabel() == title
        assert [tick.get_text() for tick in axes.get_yticklabels()] == list(groups)
        dots = [c.get_offsets() for c in axes.collections if hasattr(c, "get_sizes")
                and len(c.get_sizes())]  # fmt: skip
        drawn = sorted((y, x) for points in dots for x, y in points.tolist())
        assert drawn == sorted((y, x) for y, xs in enumerate(groups.values()) for x in xs)
        bars = [s[0][0] for c in axes.collections if hasattr(c, "get_segments")
                for s in c.get_segments()]  # fmt: skip
        assert bars == pytest.approx([statistics.fmean(xs) for xs in groups.values() if xs])


def test_nothing_is_not_drawn():
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_comparison({})
