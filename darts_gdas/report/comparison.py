"""Groups of runs side by side: a table for the terminal, CSV files, which is best."""

import statistics
from collections.abc import Sequence

from darts_gdas.report.columns import csv_text
from darts_gdas.report.runs import (
    ACCURACY,
    BENCHMARK,
    LATENCY,
    MEASURES,
    MULTIPLY_ADDS,
    PARAMETERS,
    PERCENTILE,
    REGRET,
    SECONDS,
    Group,
)
from darts_gdas.report.summary import count

TITLES = {"search": "validation, shared weights", "train": "test"}
DECIMALS = {ACCURACY: 2, BENCHMARK: 2, REGRET: 2, PERCENTILE: 1, SECONDS: 1, LATENCY: 3}
UNITS = {ACCURACY: " %", BENCHMARK: " %", REGRET: " %", PERCENTILE: " %", LATENCY: " ms"}
RANDOM = ("random", "random_ws")
"""Methods whose cells are drawn by chance."""


def spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (n - 1); None where there are too few values."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def comparison_table(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of groups of one kind: mean and deviation of what they have."""
    present = [name for name in MEASURES if any(group.values(name) for group in groups)]
    rows = [
        [group.label, str(len(group.runs)), *(_cell(name, group.values(name)) for name in present)]
        for group in groups
    ]
    headings = [f"{name}{UNITS.get(name, '')}" for name in present]
    return ["method", "runs", *headings], rows


def groups_csv(groups: Sequence[Group]) -> str:
    """One row per group: mean and standard deviation of every measure, empty where there is none.

    Example:
        >>> groups_csv([]).split(",")[:4]
        ['kind', 'method', 'runs', 'accuracy mean']
    """
    columns: dict[str, list[object]] = {
        "kind": [group.kind for group in groups],
        "method": [group.label for group in groups],
        "runs": [len(group.runs) for group in groups],
    }
    for name in MEASURES:
        spreads = [spread(group.values(name)) for group in groups]
        columns[f"{name} mean"] = [mean for mean, _ in spreads]
        columns[f"{name} standard deviation"] = [deviation for _, deviation in spreads]
    return csv_text(columns)


def runs_csv(groups: Sequence[Group]) -> str:
    """One row per run: its group, seed, folder and measures."""
    pairs = [(group, run) for group in groups for run in group.runs]
    columns: dict[str, list[object]] = {
        "kind": [group.kind for group, _ in pairs],
        "method": [group.label for group, _ in pairs],
        "seed": [run.seed for _, run in pairs],
        "folder": [str(run.folder) for _, run in pairs],
    }
    for name in MEASURES:
        columns[name] = [run.measures.get(name) for _, run in pairs]
    return csv_text(columns)


def best_line(groups: Sequence[Group], kind: str) -> str | None:
    """Which of several groups of a kind is most accurate, and whether that beats random cells.

    Known accuracies judge where a table gives them: shared weights order cells by other things.
    """
    present = [group for group in groups if group.kind == kind]
    is_known = any(group.values(BENCHMARK) for group in present)
    measure, title = (BENCHMARK, "known accuracy") if is_known else (ACCURACY, TITLES[kind])
    found = {group.label: values for group in present if (values := group.values(measure))}
    if len(found) < 2:
        return None
    ranked = sorted(found, key=lambda label: -statistics.fmean(found[label]))
    drawn = [g.label for g in groups if g.label in found and g.runs[0].method in RANDOM]
    line = f"Most accurate ({title}): {ranked[0]}, {_cell(measure, found[ranked[0]])} %"
    if ranked[0] in drawn:
        return f"{line}. Those are cells drawn at random: no search here beats chance"
    other = min(drawn, key=ranked.index) if drawn else ranked[1]
    (best, wide), (second, wider) = spread(found[ranked[0]]), spread(found[other])
    assert best is not None and second is not None
    name = f"cells drawn at random ({other})" if drawn else other
    line = f"{line}, {best - second:.2f} points above {name}"
    if wide is None and wider is None:
        return f"{line}; of one run each, so their spread is not known"
    return line + ", within their spread" * (best - second <= max(wide or 0.0, wider or 0.0))


def _cell(name: str, values: Sequence[float]) -> str:
    mean, deviation = spread(values)
    if mean is None:
        return "-"
    if name in (PARAMETERS, MULTIPLY_ADDS):
        return count(mean) if deviation is None else f"{count(mean)} +- {count(deviation)}"
    digits = DECIMALS[name]
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" +- {deviation:.{digits}f}")
