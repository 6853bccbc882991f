"""The loop of a run, with those who follow it, and its end on request."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from darts_gdas.cli.prologue import Opened
from darts_gdas.report.live import ReportFile
from darts_gdas.report.tensorboard import SearchView, TensorBoard
from darts_gdas.runtime.callbacks import MetricsFile
from darts_gdas.runtime.loop import Loop
from darts_gdas.runtime.signals import Interrupted
from darts_gdas.runtime.task import Callback
from darts_gdas.runtime.terminal import EpochTable
from darts_gdas.tasks.retrain import RetrainTask
from darts_gdas.tasks.search import SearchTask
from darts_gdas.tasks.staged import StagedSearchTask

Trained = SearchTask | StagedSearchTask | RetrainTask


def make_loop(
    run: Opened[Any, Any],
    task: Trained,
    columns: Mapping[str, str],
    details: Callable[[], dict[str, Any]],
    *,
    view: Callable[[], SearchView] | None = None,
    more: Sequence[Callback] = (),
) -> Loop:
    """The loop, at the beginning or where a checkpoint was written; with it the run has begun.

    Args:
        run: The run.
        task: What it trains.
        columns: Metrics to show on the terminal, by their short names.
        details: What a line of `metrics.jsonl` holds besides metrics.
        view: A search's present view.
        more: Further followers.
    """
    folder, state = run.folder, run.start.state
    callbacks = [
        EpochTable(run.terminal, columns),
        MetricsFile(folder.metrics, details),
        TensorBoard(folder.tensorboard, view=view),
        ReportFile(folder.path),
        *more,
    ]
    loop = Loop(
        folder,
        kind=run.name,
        fingerprint=run.fingerprint,
        callbacks=callbacks if run.ranks.is_first else [],
        device=task.compute.device,
        ranks=run.ranks,
        saving=run.start.config,
    )
    if state is not None:
        loop.load(task, state)
    begins = loop.epoch == loop.step == 0
    run.begin(f"{'starting' if begins else 'resuming'} {run.name} in {folder.path}")
    return loop


def run_loop(loop: Loop, task: Trained, run: Opened[Any, Any]) -> dict[str, float]:
    """Run to the end; a run that is to stop says how to go on with it."""
    try:
        return loop.run(task)
    except Interrupted as stop:
        if run.ranks.is_first:
            print(f"{stop}\n{run.how_to_go_on()}", file=sys.stderr)
        raise SystemExit(stop.exit_status) from None
