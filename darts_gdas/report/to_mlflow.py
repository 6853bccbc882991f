"""Figures for MLflow."""

import contextlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from darts_gdas.report.logger import Logged, Logger

EPOCH = "epoch"
"""The metric that is asked which points are there: all metrics of a point are written together."""

LONGEST, AT_ONCE = 500, 100
"""Characters of a setting, and settings in a message, that every version of MLflow takes."""


@dataclass
class MLflow(Logger):
    """A run of MLflow, in a store beside the runs' folders unless another is named.

    Attributes:
        experiment: What it belongs to.
        uri: The store; null takes MLFLOW_TRACKING_URI, else `mlflow.db` in `outputs`.
    """

    package: ClassVar[str] = "mlflow"
    extra: ClassVar[str | None] = "mlflow"
    experiment: str = "darts_gdas"
    uri: str | None = None

    def open(self, run: Logged) -> "MLflowSink":
        """Begin a run, or go on with the one that is known if the store has it."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        mlflow = import_module("mlflow")
        uri, local = self.uri or os.environ.get("MLFLOW_TRACKING_URI"), None
        if not uri:
            run.outputs.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{(run.outputs / 'mlflow.db').resolve()}"
            local = str((run.outputs / "mlflow_artifacts").resolve())
        client = mlflow.MlflowClient(tracking_uri=uri)
        if run.known is not None:
            client.update_run(run.known["id"], "RUNNING")
            return MLflowSink(client, str(run.known["id"]))
        tags = {"kind": run.kind, "folder": str(run.folder.resolve())}
        number = self._number(client, local)
        identity = client.create_run(number, tags=tags, run_name=run.name).info.run_id
        settings = [
            mlflow.entities.Param(name, str(value)[:LONGEST])
            for name, value in run.settings.items()
        ]
        for begin in range(0, len(settings), AT_ONCE):
            client.log_batch(identity, params=settings[begin : begin + AT_ONCE])
        return MLflowSink(client, identity)

    def _number(self, client: Any, local: str | None) -> str:
        """The experiment's, which is made where it is not there, unless another process was first.

        Args:
            client: Of the store.
            local: Where artifacts of a new experiment go; None leaves that to the store.
        """
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            with contextlib.suppress(import_module("mlflow.exceptions").MlflowException):
                return client.create_experiment(self.experiment, local)
            found = client.get_experiment_by_name(self.experiment)
        return found.experiment_id


class MLflowSink:
    """An open run of MLflow, whose store knows which points it has."""

    def __init__(self, client: Any, identity: str) -> None:
        self._client = client
        self.memory: Mapping[str, Any] = {"id": identity}
        points = client.get_metric_history(identity, EPOCH)
        self.last_step = max((point.step for point in points), default=-1)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """As `Sink` has it."""
        metric, now = import_module("mlflow.entities").Metric, int(1000 * time.time())
        points = [metric(name, value, now, step) for name, value in metrics.items()]
        self._client.log_batch(self.memory["id"], metrics=points)
        self.last_step = step

    def finish(self, figures: Mapping[str, float], genotype: str, step: int) -> None:
        """Figures are metrics of the last step; the genotype is the artifact `genotype.json`."""
        self.log(figures, step)
        self._client.log_text(self.memory["id"], genotype, "genotype.json")

    def close(self, *, is_finished: bool) -> None:
        """As `Sink` has it; MLflow calls a run that is not finished killed."""
        self._client.set_terminated(self.memory["id"], "FINISHED" if is_finished else "KILLED")
