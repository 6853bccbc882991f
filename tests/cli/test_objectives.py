"""What a program returns, and how a job ends that has failed; `tests/sweepers` has real sweeps."""

import json
import math
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from darts_gdas import config as configuration
from darts_gdas.cli.errors import JobFailed, program
from darts_gdas.cli.objectives import objectives
from darts_gdas.cli.sweep import Comparison
from darts_gdas.config.objective import OF_SEARCH

CFG = OmegaConf.create({"objective": "validation_accuracy", "run_dir": None})


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a job of a sweep that optimises."""
    monkeypatch.setattr(configuration, "sweep_folder", lambda: str(tmp_path))
    monkeypatch.setattr(configuration, "optimises", lambda: True)
    monkeypatch.setattr(configuration, "sweeps_here", lambda: True)
    return tmp_path


def test_it_is_read_from_the_closing_figures(job: Path):
    (job / "result.json").write_text(json.dumps({"metrics": {"validation/accuracy": 0.5}}))
    assert objectives(CFG, OF_SEARCH) == 0.5
    cfg = OmegaConf.create({"objective": ["validation_accuracy"], "run_dir": None})
    assert objectives(cfg, OF_SEARCH) == (0.5,)


def test_in_a_single_run_nobody_asks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(configuration, "sweep_folder", lambda: None)
    assert math.isnan(objectives(CFG, OF_SEARCH))  # type: ignore[arg-type]


def test_a_run_without_the_objective_is_a_failed_job(job: Path, capsys: pytest.CaptureFixture[str]):
    (job / "result.json").write_text('{"metrics": {}}')
    with pytest.raises(JobFailed):
        objectives(CFG, OF_SEARCH)
    assert "objective=validation_accuracy is not among what this run has" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [FloatingPointError("diverged"), ValueError("wrong"), KeyError(1)]
)
def test_a_fault_is_an_error_for_a_sweeper_that_optimises(
    job: Path, capsys: pytest.CaptureFixture[str], error: Exception
):
    with pytest.raises(JobFailed, match="failed"), program():
        raise error
    assert str(job) in capsys.readouterr().err


def test_a_sweep_counts_jobs_without_a_value_as_failed():
    comparison, config = Comparison(), OmegaConf.create({"hydra": {"runtime": {"output_dir": "d"}}})
    for value, status in (
        (0.0, JobStatus.COMPLETED),
        (None, JobStatus.COMPLETED),
        (0.5, JobStatus.FAILED),
    ):
        ended = JobReturn(status=status)
        ended.return_value = value
        comparison.on_job_end(config, ended)
    assert comparison.num_jobs == 3 and comparison.failed == ["d", "d"]
