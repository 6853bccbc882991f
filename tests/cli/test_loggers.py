"""Whole runs that send their figures to loggers of others: killed, and gone on with."""

import json
import os
import signal
import time
from importlib import import_module
from pathlib import Path

import pytest

from darts_gdas.report.wandb_files import offline_records
from tests import tiny
from tests.cli.test_runs import finish, metrics_of, start


def test_an_unknown_logger_is_answered_with_those_that_exist(run):
    status, _, told = run("search.py", "logger=[tensorbord]")
    assert status == 2
    assert told == "error: logger=tensorbord is not known; choose one of mlflow, wandb\n"
    assert not Path("outputs").exists()


@pytest.mark.loggers
@pytest.mark.filterwarnings("ignore")
def test_killed_and_gone_on_with_every_point_is_there_once(tmp_path: Path):
    for name in ("wandb", "mlflow"):
        pytest.importorskip(name, reason=f"needs {name}: pip install 'darts-gdas[{name}]'")
    arguments = (*tiny.TINY, "epochs=12", "logger=[wandb,mlflow]", "run_dir=mine")
    process = start(tmp_path, "search.py", *arguments, MLFLOW_TRACKING_URI="")
    lines, deadline = tmp_path / "mine" / "metrics.jsonl", time.monotonic() + 200
    while not (lines.exists() and lines.read_text().count("\n") >= 2):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    finish(start(tmp_path, "search.py", "resume=mine", MLFLOW_TRACKING_URI=""), seconds=200)
    steps = [line["step"] for line in metrics_of(tmp_path / "mine")]
    assert len(steps) == 12

    known = json.loads((tmp_path / "mine" / "loggers.json").read_text())
    uri = f"sqlite:///{tmp_path / 'outputs' / 'mlflow.db'}"
    client = import_module("mlflow").MlflowClient(tracking_uri=uri)
    points = client.get_metric_history(known["mlflow"]["id"], "validation/accuracy")
    assert sorted(point.step for point in points) == steps
    assert client.get_run(known["mlflow"]["id"]).info.status == "FINISHED"

    found = [*offline_records(tmp_path / "mine", known["wandb"]["id"])]
    sent = [point.history.item for point in found if point.HasField("history")]
    assert [int(i.value_json) for item in sent for i in item if i.nested_key == ["_step"]] == steps
    assert len([*tmp_path.glob("mine/wandb/offline-run-*")]) == 2
