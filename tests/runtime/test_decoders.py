"""What becomes of processes that decode: they die, hang, starve, are told to stop, lose theirs."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darts_gdas.runtime import decoders
from darts_gdas.runtime.dataset import DataFault
from darts_gdas.runtime.decoders import Decoders, Recipe, default_workers
from darts_gdas.runtime.pictures import Preparation
from darts_gdas.runtime.shared import Place

RECIPE = Recipe(Preparation(4, 4, 1), None)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Seven pictures, each of one grey level: 0, 10, 20, ..."""
    names = [str(tmp_path / f"{i}.png") for i in range(7)]
    for i, name in enumerate(names):
        Image.new("L", (5, 5), 10 * i).save(name)
    return names


def levels(made: Decoders, paths: list[str]) -> list[int]:
    return made.request(RECIPE, paths, [0] * len(paths)).wait()[:, 0, 0, 0].tolist()


def pids(made: Decoders) -> list[int]:
    """Their numbers, which stay known."""
    found = []
    while len(found) < made.workers:
        found.append(made._pids.get())
    for pid in found:
        made._pids.put(pid)
    return found


def is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_processes_that_are_still_beginning_are_ended_too(paths: list[str], monkeypatch):
    """One that is left waits for ever for a lock that a killed one holds, and the exit for it."""
    monkeypatch.setattr(decoders, "_begin", lambda *_: time.sleep(60))
    made = Decoders(2)
    made.request(RECIPE, paths, [0] * 7)
    found = pids(made)
    made.given_up("ended")
    assert len({*found}) == 2 and all(map(is_gone, found))


@pytest.mark.parametrize("workers", [0, 1, 2, 9])
def test_pictures_come_in_the_order_in_which_they_were_asked_for(paths: list[str], workers: int):
    made = Decoders(workers)
    first, second = made.request(RECIPE, paths, [0] * 7), made.request(RECIPE, paths[::-1], [0] * 7)
    assert second.wait()[:, 0, 0, 0].tolist() == [60, 50, 40, 30, 20, 10, 0]
    assert first.wait().shape == (7, 1, 4, 4)
    assert levels(made, paths[3:4]) == [30]


@pytest.mark.parametrize("again", ["at once", "later"])
def test_a_killed_process_is_one_error_and_ends_the_others(paths: list[str], again: str):
    made = Decoders(2)
    assert levels(made, paths) == [0, 10, 20, 30, 40, 50, 60]
    found = pids(made)
    os.kill(found[0], signal.SIGKILL)
    if again == "later":
        time.sleep(0.5)
    with pytest.raises(DataFault, match=r"has died: killed .*\(dataset\.workers=2\)$"):
        for _ in range(1000):
            levels(made, paths)
    assert all(map(is_gone, found))


def test_a_process_that_dies_while_it_delivers_is_one_error(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
):
    original = Place.write

    def write(self: Place, pixels: np.ndarray) -> None:
        original(self, pixels[:1])
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Place, "write", write)  # a fork has it too
    with pytest.raises(DataFault, match="has died"):
        levels(Decoders(2), paths)


def test_a_process_that_hangs_is_given_up(paths: list[str], monkeypatch: pytest.MonkeyPatch):
    made = Decoders(2)
    levels(made, paths)
    monkeypatch.setattr(decoders, "PATIENCE", 0.3)
    found = pids(made)
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(DataFault, match=r"gave no answer within"):
        levels(made, paths)
    assert all(map(is_gone, found))


def test_a_process_without_memory_is_one_error(paths: list[str], monkeypatch: pytest.MonkeyPatch):
    def starve(self: Preparation, path: str) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(Preparation, "__call__", starve)  # a fork has it too
    with pytest.raises(DataFault, match=r"has no memory left; pass fewer, or a smaller batch_size"):
        levels(Decoders(2), paths)


def test_signals_that_mean_the_run_do_not_end_them(paths: list[str]):
    """As Ctrl-C in a terminal and a scheduler send them: to all processes of a job."""
    made = Decoders(2)
    levels(made, paths)
    for pid in pids(made):
        os.kill(pid, signal.SIGINT)
    outside = "import os, sys; [os.kill(int(pid), 15) for pid in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", outside, *map(str, pids(made))], check=True)
    time.sleep(0.2)
    assert levels(made, paths) == [0, 10, 20, 30, 40, 50, 60]


def test_signals_find_none_of_them_unprepared(paths: list[str], monkeypatch: pytest.MonkeyPatch):
    """They come while a process begins, which this one takes half a second for."""
    begin = decoders._begin

    def slowly(*given: object) -> None:
        time.sleep(0.5)
        begin(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(decoders, "_begin", slowly)
    made = Decoders(2)
    asked = made.request(RECIPE, paths, range(len(paths)))
    outside = "import os, sys; [os.kill(int(pid), 15) for pid in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", outside, *map(str, pids(made))], check=True)
    assert len(asked.wait()) == len(paths)


def test_they_do_not_outlive_a_killed_parent(paths: list[str]):
    program = (
        "import sys, time; from tests.runtime.test_decoders import *\n"
        "made = Decoders(2); levels(made, sys.argv[1:]); print(*pids(made), flush=True)\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", program, *paths]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    found = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(found) == 2 and all(map(is_gone, found))


def test_a_child_of_multiprocessing_that_forgets_them_ends(paths: list[str]):
    """It joins its own children at its end, before a pool of processes would be told to stop."""
    kept = []

    def use() -> None:
        kept.append(Decoders(2))
        levels(kept[0], paths)

    process = get_context("fork").Process(target=use)
    process.start()
    process.join(30)
    process.kill()
    assert process.exitcode == 0


def test_cores_are_shared_among_the_ranks_of_a_machine(monkeypatch: pytest.MonkeyPatch):
    cores = len(os.sched_getaffinity(0))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert default_workers() == min(cores, decoders.DEFAULT_WORKERS)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * cores))
    assert default_workers() == 1
