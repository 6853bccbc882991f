"""The program that searches for a cell."""

from typing import Any

from omegaconf import DictConfig

from darts_gdas.cli.beginning import begin_search
from darts_gdas.cli.closing import cost_details, end_search, finish_search
from darts_gdas.cli.prologue import Opened, opened
from darts_gdas.cli.start import Start
from darts_gdas.cli.training import make_loop, run_loop
from darts_gdas.config import SearchConfig
from darts_gdas.report.alphas import alphas_line
from darts_gdas.report.artifacts import BestGenotype
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.usage import FAULT
from darts_gdas.tasks.search import SearchTask
from darts_gdas.tasks.staged import StagedSearchTask, present

SEARCH = "search"
COLUMNS = {
    "train": "train/accuracy",
    "arch": "arch/accuracy",
    "validation": "validation/accuracy",
    "loss": "train/loss",
}


def run_search(cfg: DictConfig) -> int:
    """Search, and leave genotype, drawings, curves and summary in the run folder.

    Returns:
        The exit status, in a sweep of this process; elsewhere a fault ends it.
    """
    with opened(cfg, SearchConfig, SEARCH, _build) as run:
        if run is not None:
            _search(run)
        return 0
    return FAULT


def _build(
    start: Start[SearchConfig], ranks: Ranks
) -> tuple[SearchTask | StagedSearchTask, dict[str, str]]:
    task = start.config.build(ranks)
    return task, {"data": task.data_digest}


def _search(run: Opened[SearchConfig, SearchTask | StagedSearchTask]) -> None:
    task, folder = run.built, run.folder
    more = []
    if present(task).monitor.learns:  # else no epoch's genotype means anything
        more.append(BestGenotype(folder.path / "genotype_best.json", task.genotype))
    loop = make_loop(run, task, COLUMNS, lambda: search_details(task), view=task.view, more=more)
    if run.start.state is None:
        begin_search(present(task), run)
    metrics = run_loop(loop, task, run)
    metrics = metrics | end_search(present(task), run, loop)
    if run.ranks.is_first:
        print(finish_search(present(task), folder, metrics, loop))


def search_details(task: SearchTask | StagedSearchTask) -> dict[str, Any]:
    """What a line of `metrics.jsonl` holds besides metrics: cost, alphas, genotype, warning."""
    warning = present(task).monitor.warning
    return {
        **cost_details(task.compute),
        **alphas_line(task.view()),
        **({"warning": warning} if warning else {}),
    }
