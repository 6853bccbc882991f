"""The page of one run: what it found, how it went, what it cost, how to do it again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from darts_gdas.report.cell_svg import draw_cells
from darts_gdas.report.charts import line_chart
from darts_gdas.report.classes import balanced_accuracy
from darts_gdas.report.markup import EMPTY, Markup, element
from darts_gdas.report.moves_page import moved_kinds, slider
from darts_gdas.report.numbers import is_number
from darts_gdas.report.page import (
    charts,
    code,
    command,
    document,
    facts,
    folded,
    heading,
    how_to,
    pause,
    section,
)
from darts_gdas.report.record import Record, read_record
from darts_gdas.report.retraining import retraining_sections
from darts_gdas.report.runs import VERSIONS
from darts_gdas.report.score_page import score_sections
from darts_gdas.report.source import source_name
from darts_gdas.report.summary import count, duration, genotype_lines, limit
from darts_gdas.report.verdict import verdict
from darts_gdas.runtime import launch
from darts_gdas.runtime.files import write_text

NAMES = {"search": "Search", "train": "Retraining", "score": "Scores of untrained cells"}
TOGETHER = {
    "loss": ("Loss", ("train/loss", "arch/loss", "validation/loss", "test/loss")),
    "accuracy": (
        "Accuracy, %",
        tuple(
            f"{part}/{name}"
            for name in ("accuracy", "accuracy_top5", "balanced_accuracy")
            for part in ("train", "arch", "validation", "test")
        ),
    ),
    "entropy": ("Entropy of the probabilities, 1 where all are equal", "entropy/"),
    "skip": ("Skip connections, share of the cell's edges", ("search/skip_share",)),
    "free": ("Operations without parameters, share of the edges", "search/parameter_free_share_"),
}
"""Charts of several metrics, by their names or by the beginning of them."""

SHARES = ("entropy", "skip", "free")
"""Those of them that lie between 0 and 1."""

ALONE = {
    "search/learning_rate": "Learning rate of the weights",
    "train/learning_rate": "Learning rate",
    "train/drop_path": "Drop-path probability",
    "search/tau": "Temperature of the softmax",
    "search/eigenvalue": "Curvature: largest eigenvalue of the Hessian in the alphas",
    "search/discretisation_gap": "Accuracy lost by cutting the cell, share",
    "search/stage": "Stage of the search",
    "search/skip_dropout": "Dropout behind skip connections",
    "search/stopped_operations": "Operations that no longer train, share",
    "benchmark/accuracy": "Known accuracy of the cell, %",
    "benchmark/regret": "Below the best cell of the table, %",
    "benchmark/percentile": "Cells of the table that are no better, %",
    "seconds": "Time per epoch, s",
    "peak_memory_bytes": "Peak memory, MiB",
}
"""Titles of metrics that have a chart each; any other is named by its words."""

PAGE = "report.html"
REFRESH = 10.0, 300.0
"""Seconds between two looks at the page of a run that goes on: at least, at most."""


def write_report(folder: Path, *, out: Path | None = None, result: Any = None) -> Path:
    """Write the page of a run, `report.html` in its folder unless told otherwise.

    Args:
        folder: The run's folder.
        out: Where the page goes.
        result: The closing figures of a run that ends now.

    Raises:
        ValueError: If the folder holds nothing of a run.
    """
    path = folder / PAGE if out is None else out
    write_text(path, run_page(read_record(folder, result=result)))
    return path


def run_page(record: Record) -> str:
    """The whole page."""
    title = f"{NAMES[record.kind]}: {record.folder.resolve().name}"
    parts = [
        heading(title, _state(record), _said(record)),
        pause(_refresh(record)),
        _verdict(record),
        section("Warnings", *_warnings(record), style="warning"),
        section("In short", facts(_facts(record))),
    ]
    if record.kind == "score":
        parts += score_sections(record)
    else:
        found = [
            slider(record.moves),
            section("Cells" + ", and how the alphas moved" * bool(record.moves), *_cells(record)),
            section("How it went", *_curves(record)),
        ]
        judged = retraining_sections(record)  # what a retraining is for; of a search an aside
        parts += [*judged, *found] if record.kind == "train" else [*found, *judged]
    parts += [section("Commands", *_commands(record)), section("Settings", *_settings(record))]
    return document(title, *parts, refresh=_refresh(record))


def _refresh(record: Record) -> float | None:
    """An epoch's time; None at the end."""
    if record.result:
        return None
    least, most = REFRESH
    seconds = record.last.get("seconds")
    return min(max(seconds, least), most) if is_number(seconds) else least


def _verdict(record: Record) -> Markup:
    found = verdict(record)
    if found is None:
        return EMPTY
    line = element("p", element("b", found.word), f": {found.reason}.")
    return element("section", line, class_=f"verdict {found.word.replace(' ', '-')}")


def _state(record: Record) -> str:
    epochs = record.config.get("epochs")
    of = f" of {epochs}" if epochs is not None else ""
    if record.kind == "score":
        return "finished" if record.result else "not finished"
    if record.result:
        return f"finished after {len(record.lines)} epochs"
    return f"not finished: {len(record.lines)}{of} epochs so far"


def _said(record: Record) -> str:
    return "settings: " + (" ".join(record.overrides or ()) or "the defaults")


def _source(result: Mapping[str, Any]) -> str | None:
    source = _text(result.get("genotype_source"))
    return source and source_name(source)


def _warnings(record: Record) -> list[Markup]:
    """What the run warned of, how it stopped, and what of it cannot be read."""
    told = [str(text) for text in _part(record.result, "remarks").values()]
    warnings = record.result.get("warnings", record.last.get("warnings"))
    whose = "the search of this cell warned: " if record.kind == "train" else ""
    told += [f"{whose}{text}" for text in warnings] if isinstance(warnings, list) else []
    if "not_saved" in record.result:
        told.append(f"not saved: {record.result['not_saved']}")
    return [element("p", text) for text in (*told, *record.damage, *record.missing)]


def _facts(record: Record) -> dict[str, str | None]:
    result, last = record.result, record.last
    known, best = _part(result, "benchmark").get("accuracy"), _part(result, "best").get("epoch")
    peak = result.get("peak_memory_bytes", last.get("peak_memory_bytes"))
    selected = _part(result, "metrics").get("search/selected_accuracy")
    return {
        "test accuracy": _percent(_part(result, "test").get("accuracy", last.get("test/accuracy"))),
        "balanced accuracy, the mean over classes": balanced_accuracy(record),
        "validation accuracy, shared weights": _percent(last.get("validation/accuracy")),
        "accuracy of the selected cell": _percent(selected),
        "best epoch": str(best + 1) if is_number(best) else None,
        "benchmark accuracy": f"{known:.2f} %" if is_number(known) else None,
        "parameters": _amount(result.get("parameters")),
        "multiply-adds": _amount(result.get("multiply_adds")),
        **_limit(result),
        "time": None if record.seconds is None else duration(record.seconds),
        "peak memory": f"{peak / 2**20:,.0f} MiB" if is_number(peak) else None,
        "device": _text(result.get("device", last.get("device"))),
        "genotype from": _source(result),
    }


def _limit(result: Mapping[str, Any]) -> dict[str, str | None]:
    held = limit(result.get("cost"))
    return {} if held is None else {f"at most, of {held[1]}": held[0]}


def _part(result: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object within the closing figures; empty where it is none."""
    value = result.get(name)
    return value if isinstance(value, Mapping) else {}


def _percent(value: object) -> str | None:
    return f"{100 * value:.2f} %" if is_number(value) else None


def _amount(value: object) -> str | None:
    return count(float(value)) if is_number(value) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _cells(record: Record) -> list[Markup]:
    """Drawings of the cells; of a search with all that leads to them."""
    genotype, words = record.genotype, []
    if genotype is not None:
        words = [folded("in words", code("\n".join(genotype_lines(genotype))))]
    drawn = [*moved_kinds(record)] or ([] if genotype is None else draw_cells(genotype))
    return [element("div", *drawn, class_="kinds"), *words] if drawn else []


def _curves(record: Record) -> list[Markup]:
    """Every metric in a chart: what belongs together in one, the others one each."""
    left, figures = [*record.metrics, "seconds", "peak_memory_bytes"], []
    for key, (title, wanted) in TOGETHER.items():
        found = [
            n for n in left if (n.startswith(wanted) if isinstance(wanted, str) else n in wanted)
        ]
        left = [name for name in left if name not in found]
        scale = 100.0 if key == "accuracy" else 1.0
        series = {
            _series(key, name): [(x, scale * y) for x, y in record.curve(name)] for name in found
        }
        if series:
            figures.append(line_chart(title, series, y=(0.0, 1.0) if key in SHARES else None))
    for name in left:
        scale = 2.0**-20 if name.endswith("bytes") else 1.0
        curve = [(x, scale * y) for x, y in record.curve(name)]
        if curve:
            figures.append(line_chart(metric_title(name), {"value": curve}))
    return [how_to(), charts(*figures)] if figures else []


def metric_title(name: str) -> str:
    """What a metric is called on pages.

    Example:
        >>> metric_title("search/tau"), metric_title("penalty/beta_decay")
        ('Temperature of the softmax', 'Beta decay (penalty)')
    """
    part, _, rest = name.rpartition("/")
    words = rest.replace("_", " ").capitalize() + ", %" * ("accuracy" in rest)
    return ALONE.get(name, f"{words} ({part})" if part else words)


def _series(key: str, name: str) -> str:
    """What a curve is called: the part of the data, or of the cell."""
    if key in ("loss", "accuracy"):
        part, _, metric = name.partition("/")
        return part + {"accuracy_top5": " top 5", "balanced_accuracy": " balanced"}.get(metric, "")
    return name.partition("/")[2].removeprefix("parameter_free_share_").replace("_", " ")


def _commands(record: Record) -> list[Markup]:
    folder, said, parts = record.folder, list(record.overrides or ()), []
    if record.kind == "search" and record.genotype is not None:
        parts.append(command("Retrain this cell:", launch.retraining(str(folder), said)))
    cells = record.scores.get("cell")
    if cells:
        parts.append(command("Train the best cell:", launch.retraining(cells[0], said)))
    if record.overrides is not None:
        if record.kind == "train" and not any(o.startswith("genotype=") for o in said):
            said.append(launch.setting("genotype", folder))
        parts.append(command("Reproduce this run:", launch.command(record.kind, *said)))
        if not record.result:
            line = launch.command(record.kind, launch.setting("resume", folder))
            parts.append(command("Go on with it:", line))
    return [*parts, command("Write this page again:", launch.command("report", str(folder)))]


def _settings(record: Record) -> list[Markup]:
    names = [name for name in VERSIONS if name in record.result]
    versions = ", ".join(f"{name} {record.result[name]}" for name in names)
    told = [element("p", versions)] if versions else []
    if not record.config:
        return told
    text = yaml.safe_dump(dict(record.config), sort_keys=False, allow_unicode=True)
    return [*told, folded("the whole configuration", code(text))]
