"""The page of a run that is under way."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darts_gdas.report.budget import Budget
from darts_gdas.report.run_page import write_report
from darts_gdas.runtime.task import Callback, EpochReport

logger = logging.getLogger(__name__)

SHARE = 0.01
"""The share of a run's time that its page may take."""


class ReportFile(Callback):
    """Keeps `report.html` up to date as far as `budget` permits, and at the run's end.

    Comes after `MetricsFile`, whose lines it shows.

    Args:
        folder: The run's folder.
        budget: How much time pages may take.
    """

    def __init__(self, folder: Path, budget: Budget | None = None) -> None:
        self.folder = folder
        self.budget = budget or Budget(SHARE)
        self._is_behind = False

    def on_epoch_end(self, report: EpochReport) -> None:
        """Write the page if the last one is long enough ago."""
        self._is_behind = True
        if self.budget.is_due:
            with self.budget.spend():
                self._write()

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
        folder: The run's folder.
        result: The closing figures of a run that ends now.

    Raises:
        OSError: If the file cannot be written, as for all files of a run.
    """
    try:
        write_report(folder, result=result)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        logger.warning("the page of %s could not be made: %r", folder, error)
