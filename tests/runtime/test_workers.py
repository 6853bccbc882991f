"""Any number of workers finds the same, and none of them outlives who asked."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from darts_gdas.runtime.journal import Journal
from darts_gdas.runtime.workers import check_workers, count_workers, spread

ROOT = Path(__file__).parents[2]


def product(size: int) -> float:
    x = torch.randn(size, size, generator=torch.Generator().manual_seed(size))
    return float((x @ x).sum())


def test_any_number_of_workers_finds_the_same():
    sizes = [300, 20, 10, 40, 30]
    alone = list(spread(sizes, product, 1))
    assert [position for position, _ in alone] == [*range(5)]
    for workers in (2, 9):
        assert sorted(spread(sizes, product, workers)) == alone
    assert list(spread([], product, 2)) == []


def test_each_is_measured_with_one_thread_and_where_it_says():
    def where(_: int) -> tuple[int, int]:
        time.sleep(0.05)
        return torch.get_num_threads(), os.getpid()

    threads = torch.get_num_threads()
    for workers in (1, 2):
        found = [value for _, value in spread([*range(6)], where, workers)]
        assert {count for count, _ in found} == {1}
        assert len({pid for _, pid in found} - {os.getpid()}) == (0 if workers == 1 else 2)
    assert torch.get_num_threads() == threads


def test_an_error_of_a_worker_is_the_parents_and_ends_the_others():
    def measure(i: int) -> int:
        if i == 1:
            raise ValueError("cell 1 cannot be scored")
        time.sleep(60)
        return i

    before = set(multiprocessing.active_children())  # of tests that ran here earlier
    with pytest.raises(ValueError, match="cell 1 cannot be scored"):
        list(spread([0, 1], measure, 2))
    assert set(multiprocessing.active_children()) <= before


def test_a_worker_that_dies_is_an_error_with_words():
    with pytest.raises(ChildProcessError, match=r"a worker process died.*workers=1"):
        list(spread([0, 1], lambda i: os.kill(os.getpid(), signal.SIGKILL), 2))


def test_what_is_measured_before_an_end_is_kept_and_no_worker_is_left(tmp_path: Path):
    class Stopped(Exception):
        pass

    def report(done: int, total: int) -> None:
        if done == 3:
            raise Stopped

    keys = [str(i) for i in range(6)]
    measure = lambda i: {"number": product(10 + i)}  # noqa: E731
    alone = Journal(None, "").measure_all(keys, measure)
    path, before = tmp_path / "book", set(multiprocessing.active_children())
    with pytest.raises(Stopped):
        Journal(path, "s", workers=2).measure_all(keys, measure, report)
    assert set(multiprocessing.active_children()) <= before
    again = Journal(path, "s", workers=2)
    assert len(again) == 3
    assert again.measure_all(keys, measure) == alone


def test_a_batch_is_measured_as_a_whole_whatever_is_known_of_it():
    journal, asked = Journal(None, ""), []

    def measure(batch):
        asked.append([*batch])
        return [{"sum": float(sum(batch))} for _ in batch]

    journal.add("b", {"sum": -1.0})
    keys, batches = ["a", "b", "c", "d"], [[0, 1], [2], [3]]
    journal.add("d", {"sum": -2.0})
    found = journal.measure_batches(keys, batches, measure)
    assert asked == [[0, 1], [2]]
    assert [row["sum"] for row in found] == [1.0, -1.0, 2.0, -2.0]


PROGRAM = """
import time
from darts_gdas.runtime.workers import spread
def measure(i):
    import os
    os.write(1, f"{os.getpid()}\\n".encode())  # at once, for two write
    time.sleep(60)
list(spread([0, 1], measure, 2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they look every second")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_whoever_asked_however_that_one_ends(signum: signal.Signals):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    workers = [int(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signum)
    process.wait()
    process.stdout.close()
    limit = time.monotonic() + 20
    while any(map(is_running, workers)):
        assert time.monotonic() < limit
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_the_cores_of_a_machine_are_shared_among_its_ranks(monkeypatch: pytest.MonkeyPatch):
    """Though torchrun says OMP_NUM_THREADS=1 to each of several."""
    monkeypatch.setattr("darts_gdas.runtime.compute.usable_cores", lambda: 12)
    monkeypatch.setattr("darts_gdas.runtime.workers.ALL_THREADS", 1)
    for ranks, workers in ((None, 1), ("1", 1), ("2", 6), ("8", 1), ("16", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks or "")
        assert count_workers(0, torch.device("cpu")) == workers
        assert count_workers(3, torch.device("cpu")) == 3


def test_a_gpu_is_measured_on_by_one_process_and_numbers_are_checked():
    assert count_workers(3, torch.device("cpu")) == 3
    assert count_workers(0, torch.device("cpu")) >= 1
    assert count_workers(3, torch.device("cuda")) == 1
    check_workers(0)
    with pytest.raises(ValueError, match=r"workers must lie in 0\.\.1024 .* got -1"):
        check_workers(-1)
