"""The end of a sweep: its runs side by side."""

from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from darts_gdas.cli.compare import compare
from darts_gdas.report.comparison_page import write_comparison
from darts_gdas.report.record import find_records
from darts_gdas.report.run_page import PAGE
from darts_gdas.runtime.terminal import complain
from darts_gdas.runtime.usage import FAULT

SCORE = "score"


class Comparison(Callback):
    """Hydra's callback that compares the runs of a sweep when all have ended.

    A run that had a fault has said so and ended alone; the sweep then ends with the same status.
    """

    def __init__(self) -> None:
        self.num_jobs = 0
        self.failed: list[str] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Note how a run of this process ended."""
        self.num_jobs += 1
        if job_return.status is JobStatus.COMPLETED and job_return.return_value:
            self.failed.append(str(config.hydra.runtime.output_dir))

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
        if self.failed:
            number = f"{len(self.failed)} of {self.num_jobs} runs failed"
            complain(f"{number}: {', '.join(self.failed)}")
            raise SystemExit(FAULT)
