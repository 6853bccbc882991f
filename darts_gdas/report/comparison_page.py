"""The page of several runs: methods over their seeds, what accuracy costs, links to each run."""

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from darts_gdas.report.cell_svg import draw_cells
from darts_gdas.report.charts import Dot, line_chart, scatter_chart
from darts_gdas.report.comparison import TITLES, best_lines, comparison_table, doubts
from darts_gdas.report.markup import Markup, element, table
from darts_gdas.report.numbers import is_number, short
from darts_gdas.report.page import charts, document, facts, heading, how_to, section
from darts_gdas.report.pareto import Trade, front_table, target_label, trades_of
from darts_gdas.report.record import Point, Record
from darts_gdas.report.run_page import NAMES, PAGE, metric_title
from darts_gdas.report.runs import (
    ACCURACY,
    MEASURES,
    PARAMETERS,
    SECONDS,
    Group,
    Run,
    group_runs,
    run_in,
)
from darts_gdas.report.study import StudySummary
from darts_gdas.report.summary import count, duration
from darts_gdas.runtime.files import write_text

CURVES = {"search": "validation/accuracy", "train": "test/accuracy"}

GROUP = "method and settings"

MOST_POINTS, MOST_CELLS = 30_000, 40
"""Points of all curves of single runs, and cells that dots show, so that a page stays small."""


MOST_WORD, MOST_SETTINGS = 45, 6
"""Letters of all words below an axis, and settings that accuracy is drawn against at once."""


def write_comparison(
    records: Sequence[Record], out: Path, study: StudySummary | None = None
) -> None:
    """Write the page that compares finished searches and retrainings, and leads to all runs."""
    folders = [r.folder for r in records if r.result and r.kind != "score"]
    found = [run_in(folder, otherwise="not compared") for folder in folders]
    groups = group_runs(run for run in found if run is not None)
    write_text(out, comparison_page(groups, records, out=out, study=study))


def comparison_page(
    groups: Sequence[Group],
    records: Sequence[Record],
    *,
    out: Path,
    study: StudySummary | None = None,
) -> str:
    """The whole page.

    Args:
        groups: Finished searches and retrainings, by what they have in common.
        records: Every run, finished or not.
        out: Where the page will lie; links are relative to it.
        study: The study that the runs are trials of, if they are.
    """
    finished = {run.folder.resolve() for group in groups for run in group.runs}
    others = [record for record in records if record.folder.resolve() not in finished]
    numbers = facts({"runs": str(len(records)), "compared": str(len(finished))})
    asked = (study.facts() if study else {}).items()
    about = [element("p", element("b", what), f": {told}") for what, told in asked]
    name = study.title if study else f"{len(records)} runs"
    best = [element("p", line) for kind in TITLES for line in best_lines(groups, kind)]
    best += [element("p", element("b", "Warning"), f": {doubt}") for doubt in doubts(groups)]
    parts = [
        heading(name, str(out.parent)),
        section("In short", *about, *best, numbers, style="verdict settled"),
    ]
    for kind, of_what in TITLES.items():
        members = [group for group in groups if group.kind == kind]
        title = f"{NAMES[kind]} (accuracy: {of_what})"
        if members:
            parts.append(section(title, table(*comparison_table(members))))
    by_folder = {record.folder.resolve(): record for record in records}
    dots = [scatter for kind in TITLES if (scatter := _sweep(groups, kind))]
    even = study.even if study else ()
    dots += [chart for kind in TITLES for chart in _against_settings(groups, kind, even)]
    parts.append(section("Every run a dot", *[how_to()] * bool(dots), charts(*dots)))
    curves = [_curves(groups, kind, by_folder) for kind in TITLES]
    parts.append(section("The runs laid over each other", *curves))
    parts += [_trade(trade, by_folder) for trade in trades_of(groups)]
    parts += [section("Runs", _runs(groups, out)), section("Not compared", *_others(others, out))]
    return document(name, *parts)


def _curves(groups: Sequence[Group], kind: str, by_folder: Mapping[Path, Record]) -> Markup:
    """A chart per metric, between which the reader chooses: a curve per run, and their mean."""
    members = [group for group in groups if group.kind == kind]
    folders = [run.folder.resolve() for group in members for run in group.runs]
    found = [name for folder in folders for name in by_folder[folder].metrics]
    metrics = [*dict.fromkeys([CURVES[kind], *found])]
    most = max(MOST_POINTS // max(len(folders) * len(metrics), 1), 2)
    figures = []
    for metric in metrics:
        scale = 1.0 if metric.startswith("benchmark/") or "accuracy" not in metric else 100.0
        series: dict[str, list[Point]] = {}
        drawn: list[str] = []
        for group in members:
            own = {
                f"{group.label}{_seed(run)} ({run.folder.name})": [
                    (x, scale * y) for x, y in by_folder[run.folder.resolve()].curve(metric)
                ]
                for run in group.runs
            }
            if len(own) > 1:
                own = {f"{group.label}, mean of {len(own)}": _mean([*own.values()]), **own}
            series |= {name: _thinned(curve, most) for name, curve in own.items() if curve}
            drawn += [group.label] * (len(series) - len(drawn))
        if series:
            figures.append(line_chart(metric_title(metric), series, styles=_styles(groups, drawn)))
    return charts(*figures, choose=f"{NAMES[kind].lower()}: metric")


def _mean(curves: Sequence[list[Point]]) -> list[Point]:
    """The mean of those that got so far."""
    found: dict[float, list[float]] = {}
    for epoch, value in (point for curve in curves for point in curve):
        found.setdefault(epoch, []).append(value)
    return [(epoch, statistics.fmean(found[epoch])) for epoch in sorted(found)]


def _thinned(curve: list[Point], most: int) -> list[Point]:
    step = -(-len(curve) // most)
    return curve if step <= 1 else [*curve[:-1:step], curve[-1]]


def _sweep(groups: Sequence[Group], kind: str) -> Markup | None:
    """A scatter whose axes the reader chooses: what the user set, and what came out."""
    pairs = [(group, run) for group in groups if group.kind == kind for run in group.runs]
    upwards = next((name for name in MEASURES if any(name in r.measures for _, r in pairs)), None)
    if upwards is None:
        return None
    pairs = [(group, run) for group, run in pairs if upwards in run.measures]
    chosen = dict.fromkeys(name for _, run in pairs for name in run.choices)
    labels = list(dict.fromkeys(group.label for group, _ in pairs))
    words = dict(zip(labels, _words(labels), strict=True))
    columns: dict[str, list[Any]] = {GROUP: [words[group.label] for group, _ in pairs]}
    columns |= {name: [_value(run.choices.get(name)) for _, run in pairs] for name in chosen}
    columns |= {name: [run.measures.get(name) for _, run in pairs] for name in MEASURES}
    drawn = GROUP, upwards  # whatever they hold; others are worth choosing where they vary
    columns = {k: v for k, v in columns.items() if k in drawn or len({*map(str, v)}) > 1}
    dots: dict[str, list[Dot]] = {label: [] for label in labels}
    for group, run in pairs:
        told = ", ".join(f"{n} {short(run.measures[n])}" for n in MEASURES if n in run.measures)
        place, height = float(labels.index(group.label)), run.measures[upwards]
        dots[group.label].append(Dot(place, height, f"{run.folder.name}{_seed(run)}, {told}"))
    title = f"{NAMES[kind]}: {upwards} against {GROUP}"
    about = {"data-upwards": upwards}
    return scatter_chart(
        title, dots, x_label=GROUP, styles=_styles(groups, labels), about=about, columns=columns,
        words=[*words.values()],
    )  # fmt: skip


def _words(labels: Sequence[str]) -> list[str]:
    """What labels differ in, below an axis; their numbers, where even that would be cut alike."""
    parts = [label.split() for label in labels]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    own = [[word for word in words if word not in shared] or words for words in parts]
    names = {word.partition("=")[0] for words in own for word in words}
    if len(names) == 1 and all("=" in word for words in own for word in words):
        own = [[word.partition("=")[2] for word in words] for words in own]
    found = [" ".join(words) for words in own]
    room = max(MOST_WORD // len(found), 2)
    is_clear = len({word[:room] for word in found}) == len(found)
    return found if is_clear else [str(i + 1) for i in range(len(found))]


def _against_settings(groups: Sequence[Group], kind: str, even: Sequence[str]) -> list[Markup]:
    """Accuracy against settings of three numbers or more, by powers of ten where they span one.

    So are those that a study has tried evenly over orders of magnitude, `even`.
    """
    runs = [r for g in groups if g.kind == kind for r in g.runs if ACCURACY in r.measures]
    found: list[Markup] = []
    for name in dict.fromkeys(name for run in runs for name in run.choices):
        values = [(run, _value(run.choices.get(name))) for run in runs]
        known = [(run, x) for run, x in values if is_number(x)]
        numbers = {x for _, x in known}
        if len(numbers) < 3 or name == "seed":
            continue
        is_log = min(numbers) > 0 and (name in even or max(numbers) >= 10 * min(numbers))
        dots = [
            Dot(
                math.log10(x) if is_log else x,
                run.measures[ACCURACY],
                f"{run.folder.name}{_seed(run)}, {name} {short(x)}, "
                f"{ACCURACY} {short(run.measures[ACCURACY])}",
            )
            for run, x in known
        ]
        title = f"{NAMES[kind]}: {ACCURACY} against {name}"
        found.append(scatter_chart(title, {ACCURACY: dots}, x_label=name, by_powers=is_log))
    return found[:MOST_SETTINGS]


def _styles(groups: Sequence[Group], labels: Sequence[str]) -> list[int]:
    """Of each label the colour, dash and shape that it has on the whole page."""
    known = [*dict.fromkeys(group.label for group in groups)]
    return [known.index(label) for label in labels]


def _seed(run: Run) -> str:
    return "" if run.seed is None else f", seed {run.seed}"


def _value(text: str | None) -> float | str | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return text
    return value if is_number(value) else text


def _trade(trade: Trade, by_folder: Mapping[Path, Record]) -> Markup:
    dots: dict[str, list[Dot]] = {}
    cells: list[Markup] = []
    runs = sorted(trade.runs, key=lambda run: (run.aim is None, run.aim))
    drawn = runs if len(runs) <= MOST_CELLS else trade.front[:MOST_CELLS]
    for run in runs:
        name = f"target {target_label(run)}"
        place = len(dots.setdefault(name, []))
        told = f"{run.method}{_seed(run)} ({run.folder.name})"
        (cost, accuracy), genotype = trade.point(run), by_folder[run.folder.resolve()].genotype
        dots[name].append(Dot(cost, accuracy, f"{told}, {short(accuracy)} at {short(cost)}"))
        if run in drawn and genotype is not None:
            shown = element("div", element("p", told), *draw_cells(genotype), class_="kinds")
            cells.append(element("template", shown, data_dot=f"{[*dots].index(name)}-{place}"))
    front = [trade.point(run) for run in trade.front]
    title = f"{trade.title} against {trade.cost}"
    chart = scatter_chart(title, dots, x_label=trade.cost, front=front)
    about = (
        f"The {len(front)} of {len(runs)} runs that no other beats in both are on the line; "
        "pointing at a run shows its cell."
    )
    place = element("div", class_="pointed", aria_live="polite")
    dotted = element("div", chart, *cells, place)
    head = "What accuracy costs" + f", {trade.data}" * bool(trade.data)
    return section(head, element("p", about), dotted, table(*front_table(trade)))


def _runs(groups: Sequence[Group], out: Path) -> Markup:
    rows: list[list[str]] = []
    for group in groups:
        for run in group.runs:
            found = run.measures
            rows.append(
                [
                    _link(run.folder, out),
                    run.kind,
                    group.label,
                    "-" if run.seed is None else str(run.seed),
                    f"{found[ACCURACY]:.2f}" if ACCURACY in found else "-",
                    count(found[PARAMETERS]) if PARAMETERS in found else "-",
                    duration(found[SECONDS]) if SECONDS in found else "-",
                ]
            )
    return table(["run", "kind", "method", "seed", "accuracy, %", "parameters", "time"], rows)


def _others(records: Sequence[Record], out: Path) -> list[Markup]:
    """Runs that are not finished, or of another kind: how far they got."""
    rows: list[list[str]] = []
    for record in records:
        curve = record.curve(CURVES.get(record.kind, ""))
        accuracy = short(100 * curve[-1][1]) if curve else "-"
        rows.append([_link(record.folder, out), record.kind, str(len(record.lines)), accuracy])
    return [table(["run", "kind", "epochs", "accuracy, %"], rows)] if rows else []


def _link(folder: Path, out: Path) -> Markup:
    """A run's name, which leads to its page if it has one."""
    name = os.path.relpath(folder.resolve(), out.parent.resolve())
    if not (folder / PAGE).is_file():
        return element("span", name)
    return element("a", name, href=quote(f"{name}/{PAGE}"))
