"""The page of a run that is under way."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from darts_gdas.report.run_page import write_report
from darts_gdas.runtime.task import Callback, EpochReport

logger = logging.getLogger(__name__)

REST = 50
"""After a page the run goes on undisturbed for so many times as long as the page took."""


class ReportFile(Callback):
    """Keeps `report.html` up to date, in at most 2 % of the run's time, and at its end.

    Comes after `MetricsFile`, whose lines it shows.

    Args:
        folder: Of the run.
        clock: Tells seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self.clock = clock
        self._is_behind = False
        self._due = clock()

    def on_epoch_end(self, report: EpochReport) -> None:
        """Write the page if the last one is long enough ago."""
        self._is_behind = True
        begin = self.clock()
        if begin >= self._due:
            self._write()
            self._due = self.clock() + REST * (self.clock() - begin)

    def on_stop(self) -> None:
        """Write what has come since the last page."""
        if self._is_behind:
            self._write()

    def _write(self) -> None:
        try_report(self.folder)
        self._is_behind = False


def try_report(folder: Path, result: Mapping[str, Any] | None = None) -> None:
    """`write_report`, but a page that cannot be made is a warning: no run ends for it.

    Args:
        folder: Of the run.
        result: The closing figures of a run that ends now.

    Raises:
        OSError: If the file cannot be written, as for all files of a run.
    """
    try:
        write_report(folder, result=result)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        logger.warning("the page of %s could not be made: %r", folder, error)
