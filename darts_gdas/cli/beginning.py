"""Before the first step of a search: its first alphas, and what they follow from."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from darts_gdas.cli.prologue import Opened
from darts_gdas.config import SearchConfig
from darts_gdas.report.columns import csv_text
from darts_gdas.report.heatmap import draw_cell_probabilities
from darts_gdas.report.tensorboard import write_page
from darts_gdas.report.view import edge_name
from darts_gdas.runtime.files import RunFolder, write_text
from darts_gdas.runtime.saving import Writes
from darts_gdas.runtime.work import Work
from darts_gdas.runtime.workers import count_workers
from darts_gdas.scoring.warm_start import FirstAlphas, NoWarmStart
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.initial import choose_learning_rate, set_first_alphas
from darts_gdas.tasks.stage import StageSearch

BOOK = "warm_start.jsonl"


def begin_search(task: StageSearch, run: Opened[SearchConfig, Any]) -> None:
    """Run the warm start; leave `warm_start.csv` and a page in TensorBoard. Set the rate.

    All ranks measure; the first one does the rest, the others take over what it has found.
    """
    warm_start = run.start.config.warm_start
    begins_anywhere = isinstance(warm_start, NoWarmStart)

    def begin() -> tuple[list[Tensor], float]:
        task.monitor.begin(None if begins_anywhere else task.genotype())
        if task.num_epochs:
            measured = choose_learning_rate(task)
            if measured is not None:
                run.terminal.say(measured)
        return [alphas.detach().cpu() for alphas in task.alphas.parameters()], task.learning_rate

    if begins_anywhere:
        found = run.ranks.from_first(begin)
    else:
        with run.phases("in the warm start") as work:
            first = work.together(lambda: _first_alphas(task, run, work))
            found = work.alone(lambda: (_write(task.space, run.folder, first), begin())[1])
    alphas, task.learning_rate = found
    with torch.no_grad():
        for parameter, values in zip(task.alphas.parameters(), alphas, strict=True):
            parameter.copy_(values)


def _first_alphas(
    task: StageSearch, run: Opened[SearchConfig, Any], work: Work
) -> FirstAlphas | None:
    config = run.start.config
    workers = count_workers(config.workers, task.compute.device)
    writes = Writes(config.on_save_error)
    journal = run.journal(BOOK, writes, workers=workers, ranks=run.ranks)
    return set_first_alphas(task, config.warm_start, journal, work)


def _write(space: SearchSpace, folder: RunFolder, first: FirstAlphas | None) -> None:
    if first is None:
        return
    text = csv_text(_columns(space, first))
    write_text(folder.path / "warm_start.csv", text)
    figures = {
        kind: draw_cell_probabilities(
            cell,
            first.logits[kind].double().softmax(-1).numpy(),
            title=f"{kind} cell, first alphas",
        )
        for kind, cell in space.cells.items()
    }
    write_page(folder.tensorboard, "warm_start", text, figures)


def _columns(space: SearchSpace, first: FirstAlphas) -> dict[str, Sequence[object]]:
    """One row per kind, edge and candidate."""
    header = ["kind", "edge", "candidate", "alpha", "effect", "standard_error", "drawn"]
    effects, rows = first.effects, []
    parts = (effects.mean, effects.standard_error, effects.drawn) if effects else ()
    for kind, cell in space.cells.items():
        for edge, names in enumerate(cell.candidates):
            for i, name in enumerate(names):
                alpha = f"{float(first.logits[kind][edge, i]):.4f}"
                more = [f"{float(part[kind][edge, i]):.4g}" for part in parts] or ["", "", ""]
                rows.append([kind, edge_name(cell, edge), name, alpha, *more])
    return dict(zip(header, zip(*rows, strict=True), strict=True))
