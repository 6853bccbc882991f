"""Two ranks select together, stop together, and go on with what the first one has measured."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.journal import Journal
from darts_gdas.runtime.signals import Interrupted, StopRequest
from darts_gdas.runtime.terminal import PhaseLine, Terminal, Verbosity
from darts_gdas.runtime.work import Work
from darts_gdas.search import PerturbationSelection
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.conclusion import conclude
from darts_gdas.tasks.method import Stage
from darts_gdas.tasks.search import SearchTask
from tests.distributed.test_search import DARTS, search_task
from tests.ranks import on_ranks

SPACE = SearchSpace.darts(num_nodes=1, candidates=("none", "skip_connect", "sep_conv_3x3"))
PT = replace(DARTS, discretizer=PerturbationSelection(tune_epochs=1))


def selected(
    ranks: Ranks, path: Path, *, stopped_at: int | None = None, who: int = 0
) -> tuple[str, float, int]:
    """The cell, its accuracy, and how often progress was made; no cell if it was stopped.

    A signal reaches rank `who` alone, after so many steps of the progress.
    """
    task = SearchTask(
        SPACE, (Stage(2),), lambda *_: search_task(PT, ranks, synced=True, space=SPACE)
    )
    reports: list[int] = []

    class Asked(Work):
        def __call__(self, phase: str, done: int, total: int) -> None:
            reports.append(done)
            if done == stopped_at and ranks.rank == who:
                os.kill(os.getpid(), signal.SIGTERM)
            super().__call__(phase, done, total)

    def journal(state: str) -> Journal:
        assert ranks.is_first
        return Journal(path, state)

    with StopRequest() as request:
        work = Asked(PhaseLine(Terminal(Verbosity.quiet)), request, ranks, lambda: "stopped")
        try:
            metrics = conclude(task, work, journal)
        except Interrupted as stop:
            assert request.signum == stop.signum == signal.SIGTERM
            return "", 0.0, len(reports)
    return task.genotype().to_json(), metrics["search/selected_accuracy"], len(reports)


@pytest.mark.parametrize("who", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_stopped_on_one_rank_all_stop_and_go_on_to_the_same_end(tmp_path: Path, who: int):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    first, second = on_ranks(lambda ranks: selected(ranks, whole), tmp_path)
    assert first == second
    stop = first[2] // 2
    stopped = on_ranks(lambda ranks: selected(ranks, cut, stopped_at=stop, who=who), tmp_path)
    assert stopped == [("", 0.0, stop + 1)] * 2
    kept = len(cut.read_text().splitlines())
    again = on_ranks(lambda ranks: selected(ranks, cut), tmp_path)
    assert again[0] == again[1]
    assert again[0][:2] == first[:2]
    assert again[0][2] <= first[2] - stop + 1  # no measurement twice
    assert 3 < kept < len(cut.read_text().splitlines())
    assert cut.read_text() == whole.read_text()
