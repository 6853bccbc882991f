"""Groups of runs side by side: a table for the terminal, CSV files, a picture."""

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

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
from darts_gdas.report.score_drawing import DOT
from darts_gdas.report.summary import count
from darts_gdas.report.text import FONT_SIZE, INK, text_style

TITLES = {"search": "validation, shared weights", "train": "test"}
DECIMALS = {ACCURACY: 2, BENCHMARK: 2, REGRET: 2, PERCENTILE: 1, SECONDS: 1, LATENCY: 3}
UNITS = {ACCURACY: " %", BENCHMARK: " %", REGRET: " %", PERCENTILE: " %", LATENCY: " ms"}
WIDTH, ROW, MARGIN = 8.0, 0.3, 0.7  # inches


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


def draw_comparison(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """One panel per quantity, one line per group: a dot per run, a bar at their mean.

    Args:
        panels: Values by quantity and group.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not panels or not all(panels.values()):
        raise ValueError("there is nothing to draw")
    sizes = [len(groups) for groups in panels.values()]
    figure = Figure((WIDTH, ROW * sum(sizes) + MARGIN * len(sizes)), facecolor="white")
    figure.set_layout_engine("constrained")
    every = figure.subplots(
        len(panels), squeeze=False, height_ratios=[ROW * size + MARGIN for size in sizes]
    )
    for axes, (quantity, groups) in zip(every[:, 0], panels.items(), strict=True):
        for y, values in enumerate(groups.values()):
            axes.scatter(values, [y] * len(values), s=22, color=DOT, alpha=0.6, linewidths=0)
            if values:
                axes.vlines(statistics.fmean(values), y - 0.3, y + 0.3, color=INK, linewidth=1.5)
        axes.set_ylim(len(groups) - 0.4, -0.6)  # the first on top
        axes.set_yticks(range(len(groups)), [*groups], parse_math=False)
        axes.set_xlabel(quantity, **text_style())
        axes.tick_params(labelsize=FONT_SIZE - 1)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def panels_of(groups: Sequence[Group]) -> dict[str, dict[str, list[float]]]:
    """What is worth a panel: accuracies of each kind, measured and known, then parameters."""
    panels: dict[str, dict[str, list[float]]] = {}
    for kind, of_what in TITLES.items():
        members = [group for group in groups if group.kind == kind]
        names = {
            ACCURACY: f"accuracy, % ({of_what})",
            BENCHMARK: f"benchmark accuracy, % ({kind})",
            PARAMETERS: f"parameters ({kind})",
        }
        for name, title in names.items():
            if any(group.values(name) for group in members):
                panels[title] = {group.label: group.values(name) for group in members}
    return panels


def _cell(name: str, values: Sequence[float]) -> str:
    mean, deviation = spread(values)
    if mean is None:
        return "-"
    if name in (PARAMETERS, MULTIPLY_ADDS):
        return count(mean) if deviation is None else f"{count(mean)} +- {count(deviation)}"
    digits = DECIMALS[name]
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" +- {deviation:.{digits}f}")
