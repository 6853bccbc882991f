"""The end of a run: its result as files, and its summary for the terminal."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from darts_gdas.cli.prologue import Opened
from darts_gdas.config import TrainConfig
from darts_gdas.nets import DerivedNet, Layout, count_multiply_adds, count_parameters
from darts_gdas.nets.layout import skeleton_of
from darts_gdas.report.artifacts import write_genotype
from darts_gdas.report.live import try_report
from darts_gdas.report.outcome import write_outcome
from darts_gdas.report.record import read_record
from darts_gdas.report.run_page import PAGE
from darts_gdas.report.runs import versions_here
from darts_gdas.report.source import source_name
from darts_gdas.report.summary import count, duration, genotype_lines, limit, summary
from darts_gdas.report.verdict import verdict
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.distributed import ALONE
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.launch import command, retraining, shell_quoted
from darts_gdas.runtime.loop import Loop
from darts_gdas.space import Genotype
from darts_gdas.tasks.answers import evaluate_answers
from darts_gdas.tasks.calibration import Calibration
from darts_gdas.tasks.conclusion import conclude
from darts_gdas.tasks.confusion import Confusion
from darts_gdas.tasks.mistakes import write_mistakes
from darts_gdas.tasks.model import load_model, save_model
from darts_gdas.tasks.retrain import RetrainTask
from darts_gdas.tasks.search import SearchTask

SELECTION = "selection.jsonl"


def end_search(task: SearchTask, run: Opened[Any, Any], loop: Loop) -> dict[str, float]:
    """Between the last epoch and the result: the selection, where the method has one.

    Returns:
        Metrics of what was chosen.
    """
    begin = time.monotonic()
    with run.phases("while selecting") as work:
        metrics = conclude(task, work, lambda state: run.journal(SELECTION, loop.writes, state))
    loop.seconds += time.monotonic() - begin
    return metrics


def finish_search(
    task: SearchTask,
    folder: RunFolder,
    metrics: dict[str, float],
    loop: Loop,
    overrides: Sequence[str],
) -> str:
    """Write genotype, drawings and `result.json`; return the summary.

    Parameters and multiply-adds are those of the genotype as a network of the search's size.

    Args:
        task: The search at its end.
        folder: Where to write.
        metrics: The last epoch's metrics.
        loop: For times and the best epoch.
        overrides: What the user asked for: the command to go on with names the same data.
    """
    genotype, layout = task.genotype(), task.current.supernet.layout
    shape = (task.current.data.validation.in_channels, *task.current.data.validation.image_size)
    net = DerivedNet(genotype, layout)
    cost = _cost(net, shape)
    with loop.writes.attempt("the drawings"):
        write_genotype(folder.path, genotype, title=str(folder.path))
    remarks = task.current.monitor.remarks()
    warnings = task.warnings()
    figures: dict[str, Any] = {"metrics": metrics, **cost, "remarks": remarks, "warnings": warnings}
    figures["collapsed"] = task.current.monitor.collapsed(genotype)
    if task.current.confusion is not None:
        figures["classes"] = task.current.confusion.to_dict()
    if task.known is not None:
        figures["benchmark"] = {
            "column": task.known.column,
            "index": task.known.index(genotype),
            **task.known.standing(genotype),
        }
    told = (penalty.found(genotype) for penalty in task.current.method.penalties.values())
    pressed = next((found for found in told if found is not None), None)
    if pressed is not None:
        figures["cost"] = pressed
    with loop.writes.attempt("the result"):
        _write_result(folder, loop, net, task, **figures)
    validation = "none, nothing was trained"
    if "validation/accuracy" in metrics:
        validation = f"{100 * metrics['validation/accuracy']:.2f} % under shared weights"
    if "search/selected_accuracy" in metrics:
        validation += f", {100 * metrics['search/selected_accuracy']:.2f} % of the cell alone"
    found = verdict(read_record(folder.path, result={"kind": "search", **figures}))
    facts = {
        **({} if found is None else {"verdict": str(found)}),
        **remarks,
        **warning_facts(warnings if found is None else found.beyond(warnings)),
        "validation": validation,
        **_benchmark_facts(figures.get("benchmark")),
        **_cost_facts(cost, layout),
        **_limit_facts(pressed),
        **loop.writes.facts(),
        "time": f"{duration(loop.seconds)} on {task.compute.describe()}",
        "genotype": str(folder.path / "genotype.json"),
        "picture": str(folder.path / "cells.svg"),
        "report": str(folder.path / PAGE),
        "curves": _curves(folder),
    }
    return summary(
        "Search finished",
        facts,
        genotype_lines(genotype),
        *how_to_retrain(folder, genotype, overrides),
    )


def finish_train(
    task: RetrainTask,
    folder: RunFolder,
    metrics: dict[str, float],
    loop: Loop,
    source: str,
    told: Mapping[str, Any],
) -> str:
    """Write the model and `result.json`; return the summary.

    The test figures are those of the saved file, loaded back.

    Args:
        task: The trained task.
        folder: Where to write.
        metrics: The last epoch's metrics.
        loop: For times and the best epoch.
        source: Where the genotype came from.
        told: By that search: `origin_told`.
    """
    path = folder.path / "model.pt"
    save_model(path, task.model())
    by_itself = replace(task.compute, ranks=ALONE)
    saved = by_itself.place(load_model(path).net)
    found, answers = evaluate_answers(saved, task.test, task.normalize, by_itself)
    test, trust, warnings = found.metrics, answers.calibration(), told.get("warnings", [])
    mistakes: list[dict[str, Any]] = []
    with loop.writes.attempt("the pictures of mistakes"):
        mistakes = write_mistakes(folder.path, task.test, answers)
    layout = task.net.layout
    cost = _cost(task.net, (layout.in_channels, *task.test.image_size))
    _write_result(
        folder,
        loop,
        task.net,
        task,
        genotype_source=source,
        preparation=list(task.test.preparation),
        warnings=warnings,
        test=test,
        classes=found.confusion.to_dict(),
        calibration=trust.to_dict(),
        mistakes=mistakes,
        **({"search": told["search"]} if "search" in told else {}),
        metrics=metrics,
        **cost,
    )
    standing = verdict(read_record(folder.path))
    top5 = f" (top 5: {100 * test['accuracy_top5']:.2f} %)" if "accuracy_top5" in test else ""
    facts = {
        "test accuracy": f"{100 * test['accuracy']:.2f} %{top5} on {len(task.test)} images",
        "balanced": _balanced(found.confusion),
        **({} if standing is None else {"verdict": str(standing)}),
        "calibration": _calibrated(trust),
        "genotype": source_name(source),
        **warning_facts(warnings, "search warned"),
        **_cost_facts(cost, layout),
        **loop.writes.facts(),
        "time": f"{duration(loop.seconds)} on {task.compute.describe()}",
        "model": str(path),
        "result": str(folder.result),
        "report": str(folder.path / PAGE),
    }
    export = command("export", str(folder.path), "--format", "onnx")
    return summary("Retraining finished", facts, [], _curves(folder), export)


def how_to_retrain(folder: RunFolder, genotype: Genotype, overrides: Sequence[str]) -> list[str]:
    """The command that trains what a search found, and its size where that is the paper's.

    Args:
        folder: The search's.
        genotype: What it found.
        overrides: What the user asked for then.
    """
    lines = [retraining(folder.path, overrides)]
    chosen = [item.partition("=")[2] for item in overrides if item.startswith("dataset=")]
    if set(chosen) - {"digits"}:
        channels, layers = skeleton_of(genotype.num_inputs).paper
        size = f"C={channels}, L={layers}, {TrainConfig.epochs} epochs"
        whose = "as in the paper" if channels == 36 else "the default"
        smaller = f"net.channels={min(16, channels // 2)} epochs=100"
        lines.append(f"# {size}, {whose}; for a smaller one {smaller}")
    return lines


def _balanced(confusion: Confusion) -> str:
    balanced = 100 * confusion.balanced_accuracy
    return f"{balanced:.2f} % is the mean over classes; lowest: {confusion.worst()}"


def _calibrated(trust: Calibration) -> str:
    manner = "more" if trust.excess > 0 else "less"
    return (
        f"{100 * trust.error:.2f} % expected error; on average the network is "
        f"{100 * abs(trust.excess):.2f} % {manner} sure than right"
    )


def _curves(folder: RunFolder) -> str:
    return f"tensorboard --logdir {shell_quoted(str(folder.tensorboard))}"


def warning_facts(warnings: Sequence[str], name: str = "warning") -> dict[str, str]:
    """Warnings as lines of a summary."""
    return {f"{name} {i + 1}" if i else name: text for i, text in enumerate(warnings)}


def _cost(net: nn.Module, shape: tuple[int, int, int]) -> dict[str, int]:
    return {
        "parameters": count_parameters(net),
        "multiply_adds": count_multiply_adds(net, shape),
    }


def _cost_facts(cost: dict[str, int], layout: Layout) -> dict[str, str]:
    return {
        "parameters": f"{count(cost['parameters'])} (C={layout.channels}, L={layout.layers})",
        "multiply-adds": count(cost["multiply_adds"]),
    }


def _limit_facts(pressed: dict[str, Any] | None) -> dict[str, str]:
    held = limit(pressed)
    return {} if held is None else {"limit": " ".join(held)}


def _benchmark_facts(standing: dict[str, Any] | None) -> dict[str, str]:
    if standing is None:
        return {}
    text = (
        f"{standing['accuracy']:.2f} % ({standing['column']}), {standing['regret']:.2f} below the "
        f"best, {standing['percentile']:.1f} % of all cells are no better"
    )
    return {"benchmark": text}


def class_details(confusion: Confusion | None) -> dict[str, Any]:
    """What a line of `metrics.jsonl` says of the classes; of many no matrix, for all epochs."""
    return {} if confusion is None else {"classes": confusion.to_dict(most=20)}


def cost_details(compute: Compute) -> dict[str, Any]:
    """Where a run takes place, and the memory that it has needed so far."""
    return {"device": compute.describe(), "peak_memory_bytes": compute.peak_memory()}


def _write_result(
    folder: RunFolder,
    loop: Loop,
    net: DerivedNet,
    task: SearchTask | RetrainTask,
    **figures: Any,
) -> None:
    """The run counts as finished from here on, so this comes last."""
    result = {
        "kind": loop.kind,
        "genotype": json.loads(net.genotype.to_json()),
        **figures,
        **{name.replace(" ", "_"): text for name, text in loop.writes.facts().items()},
        "best": {key: loop.best.get(key) for key in ("epoch", "value")},
        "seconds": loop.seconds,
        **cost_details(task.compute),
        **versions_here(),
    }
    with loop.writes.attempt("the page"):
        config = read_record(folder.path, result=result).config
        step = loop.epoch * task.steps_per_epoch
        kinds = net.layout.kinds
        write_outcome(folder.tensorboard, config, result, net.genotype, kinds=kinds, step=step)
        try_report(folder.path, result)
    folder.write_json(folder.result.name, result)
