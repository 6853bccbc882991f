"""Ranks that work longer than the others' patience, and ranks that are gone."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from darts_gdas.runtime.distributed import Ranks, lost_ranks, same_fate
from darts_gdas.runtime.watch import RankLost
from tests.ranks import on_ranks


def compute(seconds: float) -> int:
    """Work that gives no other sign than the time of a processor; returns 7."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return 7


def test_a_rank_that_works_longer_than_the_patience_is_waited_for(tmp_path: Path):
    def work(ranks: Ranks) -> tuple[int, float]:
        begin = time.monotonic()
        with same_fate(ranks, ValueError):  # the other one, and the first within it
            if ranks.rank == 1:
                compute(2.5)
        found = ranks.from_first(lambda: compute(2.5))
        return found, time.monotonic() - begin

    for found, seconds in on_ranks(work, tmp_path, patience=1):
        assert found == 7 and seconds >= 5


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


@pytest.mark.parametrize("who", ["itself", "child"])
def test_work_that_waits_gives_signs_itself_or_has_children_that_compute(tmp_path: Path, who: str):
    def work(ranks: Ranks) -> int:
        def make() -> int:
            if who == "child":
                code = "import time; end = time.time() + 2.5\nwhile time.time() < end: pass"
                return subprocess.run([sys.executable, "-c", code], check=True).returncode + 7
            for _ in range(25):
                time.sleep(0.1)
                ranks.watch.sign()
            return 7

        return ranks.from_first(make)

    assert on_ranks(work, tmp_path, patience=1) == [7, 7]


def test_a_rank_that_hangs_at_its_work_is_lost_within_the_patience(tmp_path: Path):
    """Its process lives, and its threads too, but nothing computes."""

    def work(ranks: Ranks) -> tuple[str, float]:
        begin = time.monotonic()
        try:
            with lost_ranks(ranks, lambda: "here"):
                ranks.from_first(lambda: time.sleep(5))
        except RankLost as error:
            return str(error), time.monotonic() - begin
        return "", 0.0

    told, seconds = on_ranks(work, tmp_path, patience=1)[1]
    assert told.endswith("rank 1 waited for rank 0, which gave no sign of life for 1 s")
    assert 1 <= seconds < 3
