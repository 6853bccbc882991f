"""What accuracy costs: runs of a sweep over cost targets, and which of them nothing beats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from darts_gdas.report.columns import table_lines
from darts_gdas.report.comparison import TITLES, UNITS, by_data
from darts_gdas.report.runs import (
    ACCURACY,
    BENCHMARK,
    LATENCY,
    MULTIPLY_ADDS,
    PARAMETERS,
    Group,
    Run,
)
from darts_gdas.report.summary import count

COSTS = {"parameters": PARAMETERS, "multiply_adds": MULTIPLY_ADDS, "latency": LATENCY}
"""Measures by the name of the quantity that a cost penalty counts."""


@dataclass(frozen=True)
class Trade:
    """Runs whose accuracy is held against their cost.

    Attributes:
        kind: "search" or "train".
        accuracy: The measure upwards.
        cost: The measure from left to right.
        runs: Those that have both.
        data: Classes of their images, in words, where there are runs of others beside them.
    """

    kind: str
    accuracy: str
    cost: str
    runs: tuple[Run, ...]
    data: str = ""

    @property
    def title(self) -> str:
        """What the accuracies are."""
        of_what = TITLES[self.kind] if self.accuracy == ACCURACY else self.kind
        of_what = f"{of_what}, {self.data}" if self.data else of_what
        return f"{self.accuracy},{UNITS[self.accuracy]} ({of_what})"

    @property
    def front(self) -> tuple[Run, ...]:
        """The runs that no other run beats, the cheapest first."""
        costs, accuracies = zip(*map(self.point, self.runs), strict=True)
        return tuple(self.runs[i] for i in pareto_front(costs, accuracies))

    def point(self, run: Run) -> tuple[float, float]:
        """Cost and accuracy of a run."""
        return run.measures[self.cost], run.measures[self.accuracy]


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> tuple[int, ...]:
    """Positions of the points that no other beats, in ascending order of cost.

    A point beats another if it costs no more, is no less accurate, and differs in one of the two.
    Equal points do not beat each other.

    Example:
        >>> pareto_front([1.0, 2.0, 3.0, 2.0], [80.0, 90.0, 85.0, 70.0])
        (0, 1)
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i]))
    front: list[int] = []
    best = (-math.inf, -math.inf)  # cost and accuracy of the last point on the front
    for i in order:  # whatever comes before costs no more
        if accuracies[i] > best[1] or (costs[i], accuracies[i]) == best:
            front.append(i)
            best = (costs[i], accuracies[i])
    return tuple(front)


def trades_of(groups: Sequence[Group]) -> list[Trade]:
    """One per kind, images and known accuracy, where the runs' searches aimed at other costs."""
    trades = []
    parts = [(kind, *part) for kind in TITLES for part in by_data(groups, kind).items()]
    for kind, data, members in parts:
        runs = [run for group in members for run in group.runs]
        aims = {run.aim for run in runs if run.aim is not None}
        if len(aims) < 2:
            continue
        quantities = {quantity for quantity, _ in aims}
        cost = COSTS[next(iter(quantities))] if len(quantities) == 1 else PARAMETERS
        if not any(cost in run.measures for run in runs):
            cost = PARAMETERS  # no retraining knows its latency
        for accuracy in (ACCURACY, BENCHMARK):
            chosen = tuple(run for run in runs if {cost, accuracy} <= run.measures.keys())
            if len(chosen) > 1:
                trades.append(Trade(kind, accuracy, cost, chosen, data))
    return trades


def front_lines(trade: Trade) -> list[str]:
    """The front as a table for the terminal: what was aimed at, what came out, and where it is."""
    heading = f"Pareto front of {len(trade.runs)} runs: {trade.title} against {trade.cost}"
    return [heading, "", *table_lines(*front_table(trade))]


def front_table(trade: Trade) -> tuple[list[str], list[list[str]]]:
    """Header and rows of that table."""
    cost = trade.cost + UNITS.get(trade.cost, "")
    accuracy = trade.accuracy + UNITS[trade.accuracy]
    rows = [
        [
            str(run.folder),
            "-" if run.seed is None else str(run.seed),
            target_label(run),
            _amount(trade.cost, run.measures[trade.cost]),
            f"{run.measures[trade.accuracy]:.2f}",
        ]
        for run in trade.front
    ]
    return ["run", "seed", "target", cost, accuracy], rows


def target_label(run: Run) -> str:
    """What a run's search was to cost, in words."""
    return "-" if run.aim is None else _amount(COSTS[run.aim[0]], run.aim[1])


def _amount(measure: str, value: float) -> str:
    return f"{value:.3g}" if measure == LATENCY else count(value)
