"""Work that says how far it is and ends when it is asked to: alone, and among ranks."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.signals import Interrupted, StopRequest
from darts_gdas.runtime.terminal import PhaseLine, Terminal
from darts_gdas.runtime.work import Work
from tests.ranks import on_ranks


def at_work(ranks: Ranks, job: Callable[[Work], object]) -> tuple[object, int, str, str]:
    """What a job returns; or by which signal it ends, with its words; and what was shown."""
    stream = io.StringIO()
    with StopRequest() as request, PhaseLine(Terminal(stream=stream)) as line:
        try:
            return job(Work(line, request, ranks, lambda: "stopped")), 0, "", stream.getvalue()
        except Interrupted as stop:
            assert request.signum == stop.signum  # what each rank's launcher gets
            return None, stop.signum, str(stop), stream.getvalue()


def asked(signum: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_it_ends_at_the_next_report(signum: int):
    done: list[int] = []

    def job(work: Work) -> None:
        for i in range(3):
            if i == 1:
                asked(signum)
            done.append(i)
            work("counting", i, 2)

    assert at_work(ALONE, job)[1:3] == (signum, "stopped")
    assert done == [0, 1]


def test_undisturbed_it_returns_what_is_made():
    assert at_work(ALONE, lambda work: work.alone(lambda: 3)) == (3, 0, "", "")


@pytest.mark.parametrize("who", [0, 1])
def test_all_ranks_end_together_whichever_was_asked(tmp_path: Path, who: int):
    def on_rank(ranks: Ranks) -> tuple[object, int, str, str]:
        def job(work: Work) -> None:
            for i in range(4):
                if i == 2 and ranks.rank == who:
                    asked()
                work("counting", i, 4)

        return at_work(ranks, job)

    first, second = on_ranks(on_rank, tmp_path)
    assert first[:3] == second[:3] == (None, signal.SIGTERM, "stopped")
    assert first[3] == "counting: 0 of 4\ncounting: 1 of 4, 00:00 left\n" + (
        "counting: 2 of 4, 00:00 left\n"
    )
    assert second[3] == ""


def test_what_the_first_rank_does_alone_ends_on_all_of_them(tmp_path: Path):
    def on_rank(ranks: Ranks) -> tuple[object, int, str, str]:
        def measure(work: Work) -> int:
            assert ranks.is_first
            work("measuring", 1, 3)
            asked()
            work("measuring", 2, 3)
            return 5

        return at_work(ranks, lambda work: work.alone(lambda: measure(work)))

    first, second = on_ranks(on_rank, tmp_path)
    assert first[:3] == second[:3] == (None, signal.SIGTERM, "stopped")


def test_what_the_first_rank_makes_all_of_them_get(tmp_path: Path):
    def on_rank(ranks: Ranks) -> object:
        return at_work(ranks, lambda work: (work.alone(lambda: ranks.rank + 7), work.heed()))[0]

    assert on_ranks(on_rank, tmp_path) == [(7, None)] * 2


def test_a_rank_that_waits_for_the_first_ones_work_is_heeded_at_once(tmp_path: Path):
    def on_rank(ranks: Ranks) -> tuple[tuple[object, int, str, str], float]:
        def measure(work: Work) -> int:
            for i in range(100):
                work("measuring", i, 100)
                time.sleep(0.1)
            return 5

        if ranks.rank == 1:
            threading.Timer(0.5, asked).start()
        begin = time.monotonic()
        found = at_work(ranks, lambda work: work.alone(lambda: measure(work)))
        return found, time.monotonic() - begin

    for (value, signum, told, _), seconds in on_ranks(on_rank, tmp_path):
        assert (value, signum, told) == (None, signal.SIGTERM, "stopped")
        assert seconds < 4  # of ten
