"""Ranks that work longer than the others' patience, and ranks that are gone."""

import time
from pathlib import Path

import pytest

from darts_gdas.runtime.distributed import Ranks, lost_ranks, same_fate
from darts_gdas.runtime.watch import RankLost
from tests.ranks import on_ranks


def test_a_rank_that_works_longer_than_the_patience_is_waited_for(tmp_path: Path):
    def work(ranks: Ranks) -> tuple[list[int], float]:
        begin = time.monotonic()
        with same_fate(ranks, ValueError):  # the other one, and the first within it
            if ranks.rank == 1:
                time.sleep(2.5)
        found = ranks.from_first(lambda: [time.sleep(2.5), 7][1:])
        return found, time.monotonic() - begin

    for found, seconds in on_ranks(work, tmp_path, patience=1):
        assert found == [7] and seconds >= 5


def test_a_rank_without_a_sign_of_life_is_lost_within_the_patience(tmp_path: Path):
    def work(ranks: Ranks) -> tuple[str, float]:
        if ranks.rank == 1:
            time.sleep(3)  # hangs outside of any work
            return "", 0.0
        begin = time.monotonic()
        with pytest.raises(RankLost) as error, lost_ranks(ranks, lambda: "here"):
            ranks.from_first(lambda: 7)
        return str(error.value), time.monotonic() - begin

    told, seconds = on_ranks(work, tmp_path, patience=1)[0]
    assert told.startswith("here: rank 0 has lost another rank, which died or gave no answer")
    assert told.endswith("rank 0 waited for rank 1, which gave no sign of life for 1 s")
    assert 1 <= seconds < 2.5
