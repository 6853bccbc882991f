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
from darts_gdas.runtime.files import write_text
from darts_gdas.scoring.book import ScoreBook
from darts_gdas.scoring.warm_start import FirstAlphas, NoWarmStart, WarmStart
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.initial import choose_learning_rate, set_first_alphas
from darts_gdas.tasks.stage import StageSearch

BOOK = "warm_start.jsonl"


def begin_search(task: StageSearch, run: Opened[SearchConfig, Any]) -> None:
    """Run the warm start; leave `warm_start.csv` and a page in TensorBoard. Set the rate.

    The first rank does, the others take over what it has found.
    """

    def begin() -> tuple[list[Tensor], float]:
        warm = not isinstance(run.start.config.warm_start, NoWarmStart)
        if warm:
            _set_alphas(task, run.start.config.warm_start, run)
        task.monitor.begin(task.genotype() if warm else None)
        if task.num_epochs:
            measured = choose_learning_rate(task)
            if measured is not None:
                run.terminal.say(str(measured))
        return [alphas.detach().cpu() for alphas in task.alphas.parameters()], task.learning_rate

    if run.ranks.size == 1:
        begin()
        return
    found, task.learning_rate = run.ranks.from_first(begin)
    with torch.no_grad():
        for alphas, values in zip(task.alphas.parameters(), found, strict=True):
            alphas.copy_(values)


def _set_alphas(task: StageSearch, warm_start: WarmStart, run: Opened[SearchConfig, Any]) -> None:
    folder, path = run.folder, run.folder.path / BOOK

    def told() -> str:
        hint = "nothing had been scored yet"
        if path.exists():
            hint = f"what is scored is kept\n{run.how_to_go_on()}"
        return f"stopped in the warm start; {hint}"

    with run.phases(told) as progress:
        first = set_first_alphas(task, warm_start, ScoreBook(path, run.fingerprint), progress)
    if first is None:
        return
    text = csv_text(_columns(task.space, first))
    write_text(folder.path / "warm_start.csv", text)
    figures = {
        kind: draw_cell_probabilities(
            cell,
            first.logits[kind].double().softmax(-1).numpy(),
            title=f"{kind} cell, first alphas",
        )
        for kind, cell in task.space.cells.items()
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
