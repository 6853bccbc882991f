"""What each line of `metrics.jsonl` holds besides metrics."""

from typing import Any

from darts_gdas.report.alphas import alphas_line
from darts_gdas.runtime.compute import Compute
from darts_gdas.tasks.search import SearchTask
from darts_gdas.tasks.staged import StagedSearchTask, present


def cost_details(compute: Compute) -> dict[str, Any]:
    """Where a run takes place, and the memory that it has needed so far."""
    return {"device": compute.describe(), "peak_memory_bytes": compute.peak_memory()}


def search_details(task: SearchTask | StagedSearchTask) -> dict[str, Any]:
    """The same of a search, its alphas, its genotype, and what it has warned of."""
    warning = present(task).monitor.warning
    return {
        **cost_details(task.compute),
        **alphas_line(task.view()),
        **({"warning": warning} if warning else {}),
    }
