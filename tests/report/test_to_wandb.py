"""Runs of Weights & Biases offline, read back from the files that `wandb sync` would send."""

import json
import time
from pathlib import Path

import pytest

from darts_gdas.report.loggers import Loggers
from darts_gdas.report.to_wandb import WeightsAndBiases
from darts_gdas.report.wandb_files import newest_step, offline_records
from darts_gdas.runtime.task import EpochReport, Progress
from tests.report.test_loggers import CELL, STEPS, run

pytestmark = [
    pytest.mark.loggers,
    pytest.mark.filterwarnings("ignore"),  # of code of others
]
pytest.importorskip("wandb", reason="needs wandb: pip install 'darts-gdas[wandb]'")


def items(entries) -> dict:
    return {e.key or ".".join(e.nested_key): json.loads(e.value_json) for e in entries}


def test_a_resumed_run_is_one_run_with_every_point_once(tmp_path: Path):
    run(tmp_path, range(3), wandb=WeightsAndBiases(project="mine"))
    run(tmp_path, range(1, 4), ends=True, wandb=WeightsAndBiases(project="mine"))
    identity = json.loads((tmp_path / "loggers.json").read_text())["wandb"]["id"]
    found = [*offline_records(tmp_path, identity)]
    begun = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert {one.run_id for one in begun} == {identity} and {one.project for one in begun} == {
        "mine"
    }
    assert begun[0].display_name == f"train {tmp_path.name}" and begun[0].job_type == "train"
    settings = items(begun[0].config.update)
    assert settings["seed"] == 3 and settings["net.channels"] == 4
    points = [items(record.history.item) for record in found if record.HasField("history")]
    assert [(p["_step"], p["test/accuracy"]) for p in points] == [
        (10, 0.0), (20, 0.1), (30, 0.2), (40, 0.3),
    ]  # fmt: skip
    last: dict = {}
    for record in found:
        if record.HasField("summary"):
            last |= items(record.summary.update)
    assert last["final/accuracy"] == 90.0 and json.loads(last["genotype"]) == json.loads(
        CELL.to_json()
    )
    exits = [record.exit.exit_code for record in found if record.HasField("exit")]
    assert exits == [1, 0]


def test_what_a_crash_cut_off_is_no_point_and_is_sent_once_more(tmp_path: Path):
    """Many points, so that records go over the end of a block; cut in the middle of the last."""
    with Loggers({"wandb": WeightsAndBiases()}, tmp_path, tmp_path, "train", {}) as loggers:
        loggers.on_start(Progress(0, 400, 0, STEPS))
        for epoch in range(300):
            metrics = {f"metric/{i}": epoch / 10 for i in range(8)}
            loggers.on_epoch_end(EpochReport(epoch, 400, STEPS * (epoch + 1), metrics, False, 0.5))
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    identity = path.stem.removeprefix("run-")
    deadline = time.monotonic() + 60  # another process writes, and is not done yet
    while newest_step(tmp_path, identity) < 300 * STEPS:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    whole = path.read_bytes()
    assert len(whole) > 2 * 2**15
    assert newest_step(tmp_path, "other") == -1
    path.write_bytes(whole[: len(whole) // 2])
    kept = newest_step(tmp_path, identity)
    assert 100 * STEPS < kept < 200 * STEPS and kept % STEPS == 0
