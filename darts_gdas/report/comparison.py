"""Groups of runs side by side: a table for the terminal, CSV files, which is best."""

import statistics
from collections.abc import Iterator, Sequence

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
PLURAL = {"search": "searches", "train": "retrainings"}
DECIMALS = {ACCURACY: 2, BENCHMARK: 2, REGRET: 2, PERCENTILE: 1, SECONDS: 1, LATENCY: 3}
UNITS = {ACCURACY: " %", BENCHMARK: " %", REGRET: " %", PERCENTILE: " %", LATENCY: " ms"}
MOST_LETTERS = 20
"""Of a class's name, where it is one of several."""

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


def by_data(groups: Sequence[Group], kind: str) -> dict[str, list[Group]]:
    """The groups of a kind by what their images are, in words; no words where all are alike.

    Runs that do not say their classes are apart where others say different ones.
    """
    found: dict[tuple, list[Group]] = {}
    for group in groups:
        if group.kind == kind:
            run = group.runs[0]
            found.setdefault((run.dataset, run.classes) if run.classes else (), []).append(group)
    if len(found.keys() - {()}) < 2:
        present = [group for group in groups if group.kind == kind]
        return {"": present} if present else {}
    parts: dict[str, list[Group]] = {}
    for data, members in found.items():
        words = _words(*data) if data else "unknown classes"
        same = sum(told.split(" #")[0] == words for told in parts)
        parts[f"{words} #{same + 1}" if same else words] = members
    return parts


def best_lines(groups: Sequence[Group], kind: str) -> list[str]:
    """`best_line` for the images of each set of classes: accuracies of others do not compare."""
    found = {data: best_line(members, kind) for data, members in by_data(groups, kind).items()}
    return [f"{data}: {line}" if data else line for data, line in found.items() if line]


def doubts(groups: Sequence[Group]) -> list[str]:
    """What makes a comparison of runs less than it seems, a sentence each."""
    told = []
    for kind, runs in PLURAL.items():
        parts = by_data(groups, kind)
        sizes = {data: sum(len(group.runs) for group in part) for data, part in parts.items()}
        if len(parts) > 1:
            counted = ", ".join(f"{size} of {data}" for data, size in sizes.items())
            told.append(f"accuracies on other images do not compare: of the {runs} {counted}")
        for data, part in parts.items():
            roots = sorted({run.root for group in part for run in group.runs})
            if len(roots) > 1:
                of_what = f" of {data}" if data else ""
                told.append(
                    f"{runs}{of_what} had different dataset.root ({', '.join(map(repr, roots))}); "
                    "where those are other images, they do not compare"
                )
    return told + [text for group in groups if group.kind == "search" for text in _repeated(group)]


def _repeated(group: Group) -> Iterator[str]:
    """A deviation over seeds comes out too small where a sample counts twice.

    A retraining's seed may repeat, for each of several cells.
    """
    together: dict[tuple[int | None, str], list[str]] = {}
    for run in group.runs:
        together.setdefault((run.seed, run.root), []).append(str(run.folder))
    for (seed, _), folders in together.items():
        if len(folders) > 1:
            yield (
                f"{', '.join(folders)} have the same settings and seed {seed}, and count as "
                f"{len(folders)} runs; leave all but one out"
            )


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


def _words(dataset: str, classes: Sequence[str]) -> str:
    names = ["".join(c if c.isprintable() else " " for c in name) for name in classes[:3]]
    cut = [name if len(name) <= MOST_LETTERS else f"{name[:MOST_LETTERS]}..." for name in names]
    shown = ", ".join([*cut, *["..."] * (len(classes) > 3)])
    return f"{len(classes)} classes ({shown})" + f" of {dataset}" * bool(dataset)


def _cell(name: str, values: Sequence[float]) -> str:
    mean, deviation = spread(values)
    if mean is None:
        return "-"
    if name in (PARAMETERS, MULTIPLY_ADDS):
        return count(mean) if deviation is None else f"{count(mean)} +- {count(deviation)}"
    digits = DECIMALS[name]
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" +- {deviation:.{digits}f}")
