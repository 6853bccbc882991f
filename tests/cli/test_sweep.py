"""What a sweep leaves at its end; `test_compare.py` has a real one."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from darts_gdas.cli.sweep import Comparison
from tests.report.test_runs import make_run


def config(folder: Path, name: str = "search") -> DictConfig:
    return OmegaConf.create(
        {"hydra": {"sweep": {"dir": str(folder)}, "job": {"config_name": name}}}
    )


def test_the_runs_are_compared_in_the_sweeps_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, method in enumerate(("darts", "gdas")):
        make_run(tmp_path / str(name), f"method={method}")
    Comparison().on_multirun_end(config(tmp_path))
    said = capsys.readouterr()
    assert "darts " in said.out and "gdas " in said.out and said.err == ""
    made = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert made == {"compare.csv", "compare_runs.csv", "report.html"}
    assert str(tmp_path / "report.html") in said.out


def test_rankings_get_a_page_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make_run(tmp_path / "0", result={"kind": "score", "cells": [], "scores": []})
    Comparison().on_multirun_end(config(tmp_path, "score"))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("is_there", [True, False])
def test_a_sweep_without_finished_runs_ends_as_it_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_there: bool
):
    if is_there:
        (make_run(tmp_path / "0") / "result.json").unlink()
    Comparison().on_multirun_end(config(tmp_path))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("warning: the runs are not compared: ") and "no" in last
