import logging
from pathlib import Path

import pytest

from darts_gdas.report import live
from darts_gdas.report.budget import Budget
from darts_gdas.report.live import SHARE, ReportFile, try_report
from darts_gdas.runtime.task import EpochReport
from tests.report.test_run_page import make_search

REPORT = EpochReport(0, 10, 1, {}, is_best=False, seconds=1.0)


class Clock:
    """Stands still but for what is added; a page takes a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.pages = 0.0, 0
        monkeypatch.setattr(live, "try_report", self.write)

    def __call__(self) -> float:
        return self.now

    def write(self, folder: Path) -> None:
        self.now += 1.0
        self.pages += 1


def test_pages_take_their_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    callback = ReportFile(tmp_path, Budget(SHARE, clock))
    for _ in range(1000):
        clock.now += 1.0
        callback.on_epoch_end(REPORT)
    assert clock.pages == pytest.approx(1000 * SHARE, abs=1)


def test_the_end_is_on_the_page_and_nothing_is_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clock = Clock(monkeypatch)
    callback = ReportFile(tmp_path, Budget(SHARE, clock))
    callback.on_stop()
    assert clock.pages == 0  # nothing has happened
    callback.on_epoch_end(REPORT)
    callback.on_stop()
    assert clock.pages == 1
    callback.on_epoch_end(REPORT)  # too early
    callback.on_stop()
    assert clock.pages == 2


def test_the_page_is_there_after_an_epoch(tmp_path: Path):
    folder = make_search(tmp_path / "a", finished=False)
    ReportFile(folder).on_epoch_end(REPORT)
    assert "not finished" in (folder / "report.html").read_text()


def test_no_run_ends_for_a_page(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        try_report(tmp_path)
    assert "could not be made" in caplog.text and not list(tmp_path.iterdir())
