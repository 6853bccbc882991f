"""A run in a local store of MLflow, read back by MLflow itself."""

import logging
from pathlib import Path

import pytest

from darts_gdas.report.loggers import Loggers
from darts_gdas.report.to_mlflow import AT_ONCE, MLflow
from darts_gdas.runtime.task import Progress
from tests.report.test_loggers import CELL, STEPS, run

pytestmark = [
    pytest.mark.loggers,
    pytest.mark.filterwarnings("ignore"),  # of code of others
]
mlflow = pytest.importorskip("mlflow", reason="needs mlflow: pip install 'darts-gdas[mlflow]'")


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def test_a_resumed_run_is_one_run_with_every_point_once(tmp_path: Path):
    folder = tmp_path / "mine"
    folder.mkdir()
    run(folder, range(3), mlflow=MLflow())
    run(folder, range(1, 4), ends=True, mlflow=MLflow())
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("darts_gdas").experiment_id])
    assert found.info.run_name == "train mine" and found.info.status == "FINISHED"
    assert found.data.params == {"seed": "3", "net.channels": "4"}
    assert found.data.tags["folder"] == str(folder)
    history = client.get_metric_history(found.info.run_id, "test/accuracy")
    points = sorted((point.step, point.value) for point in history)
    assert points == [(10, 0.0), (20, 0.1), (30, 0.2), (40, 0.3)]
    assert found.data.metrics["final/accuracy"] == 90.0
    text = mlflow.artifacts.load_text(f"{found.info.artifact_uri}/genotype.json")
    assert text == CELL.to_json()


def test_many_settings_of_any_length_go_in_parts(tmp_path: Path):
    config = {f"s{i}": "x" * 1000 for i in range(AT_ONCE + 5)}
    with Loggers(
        {"mlflow": MLflow(experiment="mine")}, tmp_path, tmp_path, "search", config
    ) as all_:
        all_.on_start(Progress(0, 4, 0, STEPS))
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert len(found.data.params) == AT_ONCE + 5 and found.info.status == "KILLED"


def test_a_store_that_cannot_be_reached_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("")
    uri = f"sqlite:///{tmp_path}/file/none.db"
    with caplog.at_level(logging.WARNING, "darts_gdas"):
        run(tmp_path, range(2), mlflow=MLflow(uri=uri))
    told = [r.getMessage() for r in caplog.records if r.name.startswith("darts_gdas")]
    assert len(told) == 1 and told[0].startswith("the run goes on without logger=[mlflow]: ")
