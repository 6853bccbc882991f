"""The page of several runs: methods over their seeds, what accuracy costs, links to each run."""

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from darts_gdas.report.charts import line_chart, scatter_chart, strip_chart
from darts_gdas.report.comparison import TITLES, comparison_table, panels_of
from darts_gdas.report.markup import Markup, element, table
from darts_gdas.report.numbers import short
from darts_gdas.report.page import charts, document, facts, heading, section
from darts_gdas.report.pareto import Trade, front_table, target_label, trades_of
from darts_gdas.report.record import Point, Record
from darts_gdas.report.run_page import NAMES, PAGE
from darts_gdas.report.runs import ACCURACY, PARAMETERS, SECONDS, Group, group_runs, run_in
from darts_gdas.report.summary import count, duration
from darts_gdas.runtime.files import write_text

CURVES = {"search": "validation/accuracy", "train": "test/accuracy"}


def write_comparison(records: Sequence[Record], out: Path) -> None:
    """Write the page that compares finished searches and retrainings, and leads to all runs."""
    folders = [r.folder for r in records if r.result and r.kind != "score"]
    found = [run_in(folder, otherwise="not compared") for folder in folders]
    groups = group_runs(run for run in found if run is not None)
    write_text(out, comparison_page(groups, records, out=out))


def comparison_page(groups: Sequence[Group], records: Sequence[Record], *, out: Path) -> str:
    """The whole page.

    Args:
        groups: Finished searches and retrainings, by what they have in common.
        records: Every run, finished or not.
        out: Where the page will lie; links are relative to it.
    """
    finished = {run.folder.resolve() for group in groups for run in group.runs}
    others = [record for record in records if record.folder.resolve() not in finished]
    numbers = facts({"runs": str(len(records)), "compared": str(len(finished))})
    parts = [heading(f"{len(records)} runs", str(out.parent)), section("In short", numbers)]
    for kind, of_what in TITLES.items():
        members = [group for group in groups if group.kind == kind]
        title = f"{NAMES[kind]} (accuracy: {of_what})"
        if members:
            parts.append(section(title, table(*comparison_table(members))))
    panels = [strip_chart(title, values) for title, values in panels_of(groups).items()]
    parts += [section("Every run a dot, the mean a bar", charts(*panels))]
    parts += [
        section("Accuracy over the epochs, mean of the runs", charts(*_curves(groups, records)))
    ]
    parts += [_trade(trade) for trade in trades_of(groups)]
    parts += [section("Runs", _runs(groups, out)), section("Not compared", *_others(others, out))]
    return document(f"{len(records)} runs", *parts)


def _curves(groups: Sequence[Group], records: Sequence[Record]) -> list[Markup]:
    """One chart per kind, one curve per group: the mean over those runs that got so far."""
    by_folder = {record.folder.resolve(): record for record in records}
    figures = []
    for kind, metric in CURVES.items():
        series: dict[str, list[Point]] = {}
        for group in groups:
            found: dict[float, list[float]] = {}
            for run in group.runs if group.kind == kind else ():
                for epoch, value in by_folder[run.folder.resolve()].curve(metric):
                    found.setdefault(epoch, []).append(100 * value)
            if found:
                means = [(epoch, statistics.fmean(found[epoch])) for epoch in sorted(found)]
                series[group.label] = means
        if series:
            figures.append(line_chart(f"{NAMES[kind]}, accuracy, % ({TITLES[kind]})", series))
    return figures


def _trade(trade: Trade) -> Markup:
    dots: dict[str, list[Point]] = {}
    runs = sorted(trade.runs, key=lambda run: (run.aim is None, run.aim))
    for run in runs:
        dots.setdefault(f"target {target_label(run)}", []).append(trade.point(run))
    front = [trade.point(run) for run in trade.front]
    title = f"{trade.title} against {trade.cost}"
    chart = scatter_chart(title, dots, x_label=trade.cost, front=front)
    about = f"Ringed: the {len(front)} of {len(runs)} runs that no other beats in both."
    return section("What accuracy costs", element("p", about), chart, table(*front_table(trade)))


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
