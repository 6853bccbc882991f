"""The front against its definition, and the picture by what it shows."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_gdas.report.pareto import front_lines, pareto_front, trades_of
from darts_gdas.report.runs import (
    ACCURACY,
    BENCHMARK,
    LATENCY,
    MULTIPLY_ADDS,
    PARAMETERS,
    Group,
    Run,
)


def run_of(
    number: int,
    target: float | None,
    measures: dict[str, float],
    *,
    quantity: str = "parameters",
    kind: str = "search",
    classes: tuple[str, ...] = (),
) -> Run:
    aim = None if target is None else (quantity, target)
    return Run(Path(f"sweep/{number}"), kind, "gdas", {}, {}, number, measures, aim, classes)


def group_of(*runs: Run) -> Group:
    return Group("gdas", runs[0].kind, runs)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Costs no more, is no less accurate, and is not the same."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


# Small whole numbers, so that ties are frequent.
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=14)


@given(POINTS)
def test_the_front_is_what_no_point_beats(points: list[tuple[int, int]]):
    front = pareto_front([cost for cost, _ in points], [accuracy for _, accuracy in points])
    expected = {i for i, p in enumerate(points) if not any(beats(q, p) for q in points)}
    assert len(front) == len(set(front)) and set(front) == expected
    costs = [points[i][0] for i in front]
    assert costs == sorted(costs)


@given(POINTS, st.integers(1, 9), st.integers(0, 9))
def test_units_do_not_change_the_front(points: list[tuple[int, int]], scale: int, shift: int):
    costs, accuracies = [p[0] for p in points], [p[1] for p in points]
    changed = [scale * cost + shift for cost in costs]
    assert pareto_front(changed, accuracies) == pareto_front(costs, accuracies)


SWEEP = group_of(
    run_of(0, 6000, {PARAMETERS: 5900, ACCURACY: 80.0}),
    run_of(1, 9000, {PARAMETERS: 8000, ACCURACY: 79.0}),  # dearer than run 0, and worse
    run_of(2, 9000, {PARAMETERS: 8500, ACCURACY: 91.0}),
    run_of(3, None, {PARAMETERS: 30_000, ACCURACY: 95.0}),
    run_of(4, None, {PARAMETERS: 40_000}),  # nothing was trained
)


def test_a_sweep_over_targets_is_a_trade():
    (trade,) = trades_of([SWEEP])
    assert (trade.kind, trade.cost, trade.accuracy) == ("search", PARAMETERS, ACCURACY)
    assert [run.seed for run in trade.runs] == [0, 1, 2, 3]
    assert [run.seed for run in trade.front] == [0, 2, 3]


def test_images_of_other_classes_have_a_front_of_their_own():
    groups = [
        group_of(
            *(run_of(i, 10.0 + i, {PARAMETERS: 9.0, ACCURACY: top}, classes=c) for i in range(2))
        )
        for top, c in ((50.0, ("a", "b")), (90.0, ("x", "y")))
    ]
    first, second = trades_of(groups)
    assert first.title == "accuracy, % (validation, shared weights, 2 classes (a, b))"
    assert second.title == "accuracy, % (validation, shared weights, 2 classes (x, y))"
    assert first.front == groups[0].runs and second.front == groups[1].runs


def test_runs_that_aim_at_one_cost_or_none_are_no_trade():
    same = [run_of(i, 6000, {PARAMETERS: 10 + i, ACCURACY: 50.0}) for i in range(3)]
    free = [run_of(i, None, {PARAMETERS: 10 + i, ACCURACY: 50.0}) for i in range(3)]
    assert trades_of([group_of(*same), group_of(*free)]) == []


@pytest.mark.parametrize(
    ("quantity", "kind", "cost"),
    [
        ("multiply_adds", "search", MULTIPLY_ADDS),
        ("latency", "search", LATENCY),
        ("multiply_adds", "train", MULTIPLY_ADDS),
        ("latency", "train", PARAMETERS),  # a retraining does not measure it
    ],
)
def test_the_axis_is_the_quantity_that_was_aimed_at(quantity: str, kind: str, cost: str):
    measures = {PARAMETERS: 1.0, MULTIPLY_ADDS: 2.0, ACCURACY: 50.0}
    if kind == "search":
        measures[LATENCY] = 0.5
    runs = [run_of(i, 3.0 + i, measures, quantity=quantity, kind=kind) for i in range(2)]
    (trade,) = trades_of([group_of(*runs)])
    assert trade.cost == cost
    assert trade.front == tuple(runs)  # equal points do not beat each other


def test_known_accuracies_have_a_panel_of_their_own():
    runs = [
        run_of(i, 10.0 * (i + 1), {PARAMETERS: 9.0 + i, ACCURACY: 50.0 - i, BENCHMARK: 90.0 + i})
        for i in range(3)
    ]
    first, second = trades_of([group_of(*runs)])
    assert [run.seed for run in first.front] == [0]
    assert [run.seed for run in second.front] == [0, 1, 2]
    assert second.title == "benchmark accuracy, % (search)"


def test_the_front_is_printed_run_by_run():
    (trade,) = trades_of([SWEEP])
    heading, _, header, _, *rows = front_lines(trade)
    assert heading == (
        "Pareto front of 4 runs: accuracy, % (validation, shared weights) against parameters"
    )
    assert header.split() == ["run", "seed", "target", "parameters", "accuracy", "%"]
    assert [row.split() for row in rows] == [
        ["sweep/0", "0", "6,000", "5,900", "80.00"],
        ["sweep/2", "2", "9,000", "8,500", "91.00"],
        ["sweep/3", "3", "-", "30,000", "95.00"],
    ]
