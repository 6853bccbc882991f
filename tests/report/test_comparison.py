import csv
import io
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from darts_gdas.report.columns import table_lines
from darts_gdas.report.comparison import (
    best_line,
    best_lines,
    by_data,
    comparison_table,
    doubts,
    groups_csv,
    runs_csv,
    spread,
)
from darts_gdas.report.runs import ACCURACY, BENCHMARK, PARAMETERS, Group, Run, group_runs


def group_of(
    label: str,
    *measures: dict[str, float],
    kind: str = "search",
    classes: tuple[str, ...] = (),
    dataset: str = "",
    roots: tuple[str, ...] = ("", ""),
) -> Group:
    data = [(classes, dataset, root) for root in roots]
    runs = [
        Run(Path(f"{label}/{seed}"), kind, label, {}, {}, seed, each, None, *data[seed])
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


def test_the_best_is_named_with_its_distance():
    """Means 92 and 89: 3 points, within the larger deviation, sqrt(8) = 2.83, or not."""
    far, near = (group_of("gdas", {ACCURACY: mean}) for mean in (89.0, 91.0))
    start = "Most accurate (validation, shared weights): darts, 92.00 +- 2.83 %, "
    assert best_line([GROUPS[0], far], "search") == f"{start}3.00 points above gdas"
    assert best_line([near, GROUPS[0]], "search") == (
        f"{start}1.00 points above gdas, within their spread"
    )
    assert best_line(GROUPS, "search") is None and best_line(GROUPS, "train") is None


def test_known_accuracies_judge_where_a_table_gives_them():
    """The order under shared weights is the other one."""
    first = group_of("gdas", {ACCURACY: 90.0, BENCHMARK: 91.0})
    second = group_of("darts_pt", {ACCURACY: 40.0, BENCHMARK: 94.0})
    line = best_line([first, second], "search")
    first, second = line.split("; ")
    assert first == "Most accurate (known accuracy): darts_pt, 94.00 %, 3.00 points above gdas"
    assert second == "of one run each, so their spread is not known"


def test_the_best_is_held_against_random_cells():
    gdas, drawn = group_of("gdas", {ACCURACY: 91.0}), group_of("random", {ACCURACY: 80.0})
    line = best_line([GROUPS[0], gdas, drawn], "search")
    assert line is not None and line.endswith("12.00 points above cells drawn at random (random)")
    line = best_line([gdas, group_of("random", {ACCURACY: 92.0})], "search")
    assert line is not None and line.endswith("no search here beats chance")


def test_accuracies_on_other_classes_are_not_held_against_each_other():
    """A third is chance of three classes, and more than a good cell reaches of many."""
    three, ten = ("cat", "dog", "owl"), tuple("0123456789")
    groups = [
        group_of("gdas", {ACCURACY: 33.3}, classes=three),
        group_of("gdas digits", {ACCURACY: 20.0}, {ACCURACY: 22.0}, classes=ten),
        group_of("darts digits", {ACCURACY: 30.0}, {ACCURACY: 32.0}, classes=ten),
        group_of("old", {ACCURACY: 99.0}),
    ]
    assert best_lines(groups, "search") == [
        "10 classes (0, 1, 2, ...): Most accurate (validation, shared weights): darts digits, "
        "31.00 +- 1.41 %, 10.00 points above gdas digits"
    ]
    assert doubts(groups) == [
        "accuracies on other images do not compare: of the searches 1 of 3 classes (cat, dog, "
        "owl), 4 of 10 classes (0, 1, 2, ...), 1 of unknown classes"
    ]
    of_one = [*groups[1:3], group_of("old", {ACCURACY: 99.0})]  # before runs told their classes
    assert not doubts(of_one) and "old, 99.00 %" in best_lines(of_one, "search")[0]


def test_sets_of_classes_that_begin_alike_are_two():
    first, second = ("a", "b", "c", "d"), ("a", "b", "c", "e")
    groups = [group_of(c[-1], {ACCURACY: 50.0}, classes=c) for c in (first, second)]
    parts = by_data(groups, "search")
    assert parts == {
        "4 classes (a, b, c, ...)": [groups[0]],
        "4 classes (a, b, c, ...) #2": [groups[1]],
    }
    kinds = [group.runs[0] for group in groups]
    assert len(group_runs([replace(run, method="gdas") for run in kinds])) == 2


def test_images_of_two_places_under_the_same_settings_are_said():
    runs = {ACCURACY: 50.0}, {ACCURACY: 70.0}
    (told,) = doubts([group_of("gdas", *runs, roots=("photos", "other"))])
    assert told.startswith("searches had different dataset.root ('other', 'photos'); where those")
    assert not doubts([group_of("gdas", *runs, roots=("photos", "photos"))])


def test_equal_names_of_classes_in_two_data_sets_are_two():
    groups = [
        group_of(dataset, {ACCURACY: 50.0}, classes=tuple("0123"), dataset=dataset)
        for dataset in ("digits", "npz")
    ]
    assert list(by_data(groups, "search")) == [
        "4 classes (0, 1, 2, ...) of digits",
        "4 classes (0, 1, 2, ...) of npz",
    ]


def test_names_of_classes_are_told_in_one_line():
    groups = [
        group_of("gdas", {ACCURACY: 50.0}, classes=("line\nbreak", 50 * "x", "")),
        group_of("darts", {ACCURACY: 50.0}, classes=("a", "b")),
    ]
    first, _ = by_data(groups, "search")
    assert first == f"3 classes (line break, {20 * 'x'}..., )"
