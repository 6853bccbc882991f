"""The program that ranks untrained cells."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.cli.closing import warning_facts
from darts_gdas.cli.errors import program
from darts_gdas.cli.prologue import opened
from darts_gdas.cli.start import Start
from darts_gdas.config import ScoreConfig
from darts_gdas.config.unused import of_cells
from darts_gdas.report.columns import csv_text, table_lines
from darts_gdas.report.live import try_report
from darts_gdas.report.run_page import PAGE
from darts_gdas.report.score_page import ERROR, REMARK
from darts_gdas.report.summary import summary
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.files import RunFolder, write_text
from darts_gdas.runtime.launch import retraining
from darts_gdas.runtime.saving import OnSaveError, Writes
from darts_gdas.runtime.usage import put_result
from darts_gdas.runtime.workers import count_workers
from darts_gdas.scoring.correlation import Correlation, kendall_tau, spearman
from darts_gdas.scoring.scores import SIZES
from darts_gdas.scoring.table import AccuracyTable
from darts_gdas.space import Genotype
from darts_gdas.space.networks import is_disconnected
from darts_gdas.tasks.ranking import Scored, ScoreTask

logger = logging.getLogger(__name__)

SCORE, BOOK, TOTAL = "score", "scores.jsonl", "rank sum"

MOST_PAIRS = 3
"""Cells that are one network: so many are named."""


def run_score(cfg: DictConfig) -> float | None:
    """Score, rank, and leave `scores.csv`, `report.html` and `result.json` in the run folder.

    Returns:
        0, for a ranking has no objective; None after a fault, as `run_search`.
    """
    with program() as mark, opened(mark, cfg, ScoreConfig, SCORE, _build) as run:
        if run is not None:
            task, table = run.built
            said = configuration.said_values(run.start.overrides)
            warnings = [*_told_again(task), *of_cells(run.start.config, said)]
            for text in warnings if run.ranks.is_first else ():
                logger.warning(text)
            run.begin(f"scoring {len(task.networks)} cells in {run.folder.path}")
            with run.phases("while scoring") as work:
                workers = count_workers(run.start.config.workers, task.compute.device)
                writes = Writes(OnSaveError.stop)
                journal = run.journal(BOOK, writes, workers=workers, ranks=run.ranks)
                scored = work.together(lambda: task.run(journal, partial(work, "scoring")))
                if run.ranks.is_first:
                    warnings += scored.left_out
                    told = _finish(run.folder, scored, table, run.start.overrides, warnings)
                    put_result(told)
        return 0.0
    return None


def _build(
    start: Start[ScoreConfig], ranks: Ranks
) -> tuple[tuple[ScoreTask, AccuracyTable | None], dict[str, str]]:
    """The task, and the known accuracies."""
    task = start.config.build()
    return (task, start.config.table()), {"data": task.images.digest()}


def _told_again(task: ScoreTask) -> Iterator[str]:
    if not task.again:
        return
    pairs = [f"cell {i + 1} is cell {first + 1}" for i, first in task.again.items()]
    more = ", ..." if len(pairs) > MOST_PAIRS else ""
    yield (
        f"{len(pairs)} of {len(task.genotypes)} cells are the networks of earlier ones "
        f"({', '.join(pairs[:MOST_PAIRS])}{more}); each is measured and ranked once, as the earlier"
    )


def _finish(
    folder: RunFolder,
    scored: Scored,
    table: AccuracyTable | None,
    overrides: Sequence[str],
    warnings: Sequence[str],
) -> str:
    order = scored.order()
    columns: dict[str, list[Any]] = {
        "cell": [_name(genotype) for genotype in scored.genotypes],
        REMARK: ["disconnected" if is_disconnected(g) else "" for g in scored.genotypes],
        TOTAL: scored.total,
    }
    for name, means in scored.means.items():
        if name in SIZES:  # scores are their logarithms
            columns[name] = [round(math.exp(value)) for value in means]
        else:
            columns[name] = means
            if not all(map(math.isnan, scored.errors[name])):
                columns[f"{name}{ERROR}"] = scored.errors[name]
    accuracies = None if table is None else [table.accuracy(g) for g in scored.genotypes]
    if accuracies is not None:
        columns["accuracy"] = accuracies
    ordered = {name: [column[i] for i in order] for name, column in columns.items()}
    cells = ordered["cell"]
    cut = [cell for cell, said in zip(cells, ordered[REMARK], strict=True) if said]
    ranked = {"rank": range(1, len(order) + 1), **ordered}
    write_text(folder.path / "scores.csv", csv_text(ranked))
    values = {**scored.means, TOTAL: scored.total}
    taus: dict[str, Correlation] = {}
    best = enumerate(cells[:5], 1)
    body = [
        "best cells",
        *(f"  {i}. {cell}{'  (disconnected)' * (cell in cut)}" for i, cell in best),
    ]
    if accuracies is not None:
        found = {n: _correlation(kendall_tau, v, accuracies) for n, v in values.items()}
        taus = {name: tau for name, tau in found.items() if tau is not None}
        body += ["", *_correlations(values, accuracies, taus)]
    result = {
        "kind": SCORE,
        "cells": cells,
        "scores": list(scored.ranked_by),
        "warnings": list(warnings),
        "disconnected": cut,
        "kendall_tau": {name: [c.value, c.low, c.high] for name, c in taus.items()},
    }
    try_report(folder.path, result)
    folder.write_json(folder.result.name, result)
    facts = {
        "cells": f"{len(cells)}, ranked by {' + '.join(scored.ranked_by)}",
        **warning_facts(warnings),
        **({"disconnected": f"{len(cut)}: no path from input to output"} if cut else {}),
        "table": str(folder.path / "scores.csv"),
        "report": str(folder.path / PAGE),
    }
    return summary("Scoring finished", facts, body, retraining(cells[0], overrides))


def _correlations(
    values: dict[str, list[float]], accuracies: list[float], taus: dict[str, Correlation]
) -> list[str]:
    """Every score against the accuracies, and which are not worth their time."""
    rows = []
    for name, scores in values.items():
        rho = _correlation(spearman, scores, accuracies)
        top = _correlation(partial(kendall_tau, top_half=True), scores, accuracies)
        shown = [
            "-" if c is None else f"{c.value:.3f} [{c.low:.3f}, {c.high:.3f}]"
            for c in (taus.get(name), top, rho)
        ]
        rows.append([name, *shown])
    header = ["score", "Kendall tau [95 %]", "tau, better half", "Spearman rho"]
    lines = table_lines(header, rows)
    best = max((taus[name].value for name in SIZES if name in taus), default=-1.0)
    beaten = [n for n in taus if n not in SIZES and taus[n].value <= best]
    if beaten:
        lines.append(f"no better than size alone (tau {best:.3f}): {', '.join(beaten)}")
    return lines


def _correlation(
    statistic: Callable[..., Correlation], scores: list[float], accuracies: list[float]
) -> Correlation | None:
    """None where there is no order to compare."""
    try:
        return statistic(scores, accuracies)
    except ValueError:
        return None


def _name(genotype: Genotype) -> str:
    """A NAS-Bench-201 string, or the genotype as one line of JSON."""
    try:
        return genotype.to_arch_string()
    except ValueError:
        return " ".join(genotype.to_json().split())
