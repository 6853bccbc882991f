"""Figures for Weights & Biases."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import Any, ClassVar

from darts_gdas.report.logger import Logged, Logger
from darts_gdas.report.wandb_files import newest_step


class Mode(Enum):
    """Whether points go to files of the run's folder, for `wandb sync`, or to a server at once."""

    offline = "offline"
    online = "online"


@dataclass
class WeightsAndBiases(Logger):
    """A run of Weights & Biases, in `wandb/` of the run's folder.

    Attributes:
        project: What it belongs to.
        entity: Whose project it is; null is the account's own.
        mode: "offline" needs no account and no network.
    """

    package: ClassVar[str] = "wandb"
    extra: ClassVar[str | None] = "wandb"
    project: str = "darts_gdas"
    entity: str | None = None
    mode: Mode = Mode.offline

    def open(self, run: Logged) -> "WandbSink":
        """Begin a run, or a further part of the one that is known."""
        if self.mode is Mode.offline:
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else errors go to a server
        wandb = import_module("wandb")
        identity = secrets.token_hex(4) if run.known is None else str(run.known["id"])
        sent = wandb.init(
            dir=str(run.folder),
            project=self.project,
            entity=self.entity,
            mode=self.mode.value,
            id=identity,
            name=run.name,
            job_type=run.kind,
            resume="allow",
            config=dict(run.settings),
            settings=wandb.Settings(silent=True, console="off"),
        )
        is_online = self.mode is Mode.online
        last_step = int(sent.step) - 1 if is_online else newest_step(run.folder, identity)
        return WandbSink(sent, identity, last_step)


class WandbSink:
    """An open run of Weights & Biases."""

    def __init__(self, run: Any, identity: str, last_step: int) -> None:
        self._run = run
        self.memory: Mapping[str, Any] = {"id": identity}
        self.last_step = last_step

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """As `Sink` has it."""
        self._run.log(dict(metrics), step=step, commit=True)
        self.last_step = step

    def finish(self, figures: Mapping[str, float], genotype: str, step: int) -> None:
        """Figures and genotype stand in the summary, which holds the last value of everything."""
        plain = json.dumps(json.loads(genotype)) if genotype else ""
        self._run.summary.update({**figures, "genotype": plain})

    def close(self, *, is_finished: bool) -> None:
        """As `Sink` has it; Weights & Biases calls a run that is not finished failed."""
        self._run.finish(exit_code=0 if is_finished else 1)
