"""The end of a sweep: its runs side by side."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from darts_gdas.cli.compare import compare
from darts_gdas.cli.report import write_comparison
from darts_gdas.report.record import find_records
from darts_gdas.report.run_page import PAGE
from darts_gdas.runtime.terminal import complain

SCORE = "score"


class Comparison(Callback):
    """Hydra's callback that compares the runs of a sweep when all have ended."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write tables, pictures and a page into the sweep's folder; the runs stand in any case."""
        folder = Path(config.hydra.sweep.dir)
        try:
            if config.hydra.job.config_name != SCORE:
                compare([folder], folder)
            page = folder / PAGE
            write_comparison(find_records(folder), page)
            print(f"page     {page}")
        except (ValueError, OSError) as error:
            complain(f"the runs are not compared: {error}", "warning")
