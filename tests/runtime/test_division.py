"""Ranks measure disjoint parts: together what one measures, each number once, and end together."""

import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from darts_gdas.runtime.distributed import ALONE, FirstRankFailed, Ranks, lost_ranks
from darts_gdas.runtime.division import RankFailed
from darts_gdas.runtime.journal import Journal, Numbers
from darts_gdas.runtime.watch import RankLost
from darts_gdas.runtime.work import Work
from tests.ranks import on_ranks
from tests.runtime.test_work import at_work

KEYS = [str(i) for i in range(9)]
BATCHES = [[0, 1, 2], [3], [4, 5], [6], [7, 8]]


def numbers(i: int) -> Numbers:
    third = float(torch.tensor(i).double() / 3)
    return {"third": third, "word": [math.inf, -math.inf, 0.1][i % 3]}


def measured(
    ranks: Ranks, path: Path, measure: Callable[[int], object] = lambda i: None, workers: int = 1
) -> tuple[list[Numbers], list[int]]:
    """What stands in the journal in the end, and what this rank has measured for it."""
    mine: list[int] = []

    def batch(positions: Sequence[int]) -> list[Numbers]:
        mine.extend(positions)
        for i in positions:
            measure(i)
        return [numbers(i) for i in positions]

    journal = Journal(path if ranks.is_first else None, "s", workers=workers, ranks=ranks)
    return journal.measure_batches(KEYS, BATCHES, batch), mine


ALL = [numbers(i) for i in range(9)]


@pytest.mark.parametrize(("size", "workers"), [(2, 1), (3, 2)])
def test_ranks_find_what_one_finds_and_measure_each_once(tmp_path: Path, size: int, workers: int):
    work = lambda ranks: measured(ranks, tmp_path / "j", workers=workers)  # noqa: E731
    found = on_ranks(work, tmp_path, size=size)
    assert [rows for rows, _ in found] == [ALL] * size
    if workers == 1:  # else they are measured in other processes
        assert sorted(i for _, mine in found for i in mine) == [*range(9)]
        for batch in BATCHES:
            assert [mine for _, mine in found if set(batch) <= set(mine)]
    lines = (tmp_path / "j").read_text().splitlines()
    assert len(lines) == 1 + 9 and measured(ALONE, tmp_path / "j") == (ALL, [])


def test_whoever_is_free_takes_the_next(tmp_path: Path):
    def work(ranks: Ranks) -> list[int]:
        slow = 0.5 if ranks.rank == 1 else 0.0
        return measured(ranks, tmp_path / "j", lambda i: time.sleep(slow))[1]

    first, second = on_ranks(work, tmp_path)
    assert len(first) + len(second) == 9 and len(second) <= 3  # a batch of theirs


@pytest.mark.parametrize("after", [1, 3])
def test_interrupted_on_any_rank_another_number_of_ranks_goes_on(tmp_path: Path, after: int):
    """Rank 1 is asked to stop; all end by that signal, and what is measured is kept."""

    def work(ranks: Ranks) -> tuple[object, int, str, str]:
        def job(work: Work) -> None:
            def stop(i: int) -> None:
                if i == 4:
                    os.kill(os.getpid(), signal.SIGUSR2)
                    work("measuring", i, 9)  # as the journal does after it
                time.sleep(0.1)

            work.together(lambda: measured(ranks, tmp_path / "j", stop))

        return at_work(ranks, job)

    ends = {end[:3] for end in on_ranks(work, tmp_path)}
    assert ends == {(None, signal.SIGUSR2, "stopped")}
    kept = len(Journal(tmp_path / "j", "s"))
    assert 0 < kept < 9
    again = partial(measured, path=tmp_path / "j")
    found = [again(ALONE)] if after == 1 else on_ranks(again, tmp_path, size=after)
    assert [rows for rows, _ in found] == [ALL] * after
    assert sum(len(mine) for _, mine in found) == 9 - kept


@pytest.mark.parametrize("culprit", [0, 1])
def test_an_error_on_one_rank_ends_all_soon_and_is_named(tmp_path: Path, culprit: int):
    def work(ranks: Ranks) -> tuple[str, str, int]:
        def fail(i: int) -> None:
            time.sleep(0.1)
            if ranks.rank == culprit:
                raise FloatingPointError("no such cell")

        mine: list[int] = []
        try:
            measured(ranks, tmp_path / "j", lambda i: (mine.append(i), fail(i)))
        except (FloatingPointError, FirstRankFailed, RankFailed) as error:
            return type(error).__name__, str(error), len(mine)
        return "", "", 0

    found = on_ranks(work, tmp_path)
    own, other = found[culprit], found[1 - culprit]
    assert own[:2] == ("FloatingPointError", "no such cell")
    told = f"rank {culprit} failed: FloatingPointError: no such cell"
    assert other[:2] == ("RankFailed" if culprit else "FirstRankFailed", told)
    assert own[2] + other[2] < 9


def test_a_rank_that_is_gone_is_lost_with_what_it_had_in_hand(tmp_path: Path):
    """One that hangs gives no sign of life either, and can be asked afterwards."""

    def work(ranks: Ranks) -> str:
        hangs = 3 if ranks.rank == 1 else 0.1
        with pytest.raises(RankLost) as error, lost_ranks(ranks, lambda: "while scoring"):
            measured(ranks, tmp_path / "j", lambda i: time.sleep(hangs))
        return str(error.value)

    told = on_ranks(work, tmp_path, patience=1)[0]
    assert told.startswith("while scoring: rank 0 has lost another rank, which died or gave no")
    assert told.endswith("rank 0 waited for rank 1, which gave no sign of life for 1 s")
    found, missing = measured(ALONE, tmp_path / "j")
    assert found == ALL and missing in BATCHES
