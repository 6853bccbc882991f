"""Loggers of others: what they get, what a resumed run sends, and that none can do harm."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from darts_gdas.report.logger import Logged, Logger
from darts_gdas.report.loggers import Loggers
from darts_gdas.runtime.task import EpochReport, Progress
from darts_gdas.space import Genotype

STEPS = 10
CONFIG = {"seed": 3, "net": {"channels": 4}}
CELL = Genotype.load("DARTS_V2")
RESULT = {"kind": "train", "test": {"accuracy": 0.9}, "seconds": 2.0}


@dataclass
class Fake(Logger):
    """Keeps what it gets, by the ids of its runs; fails where it is told to."""

    package: ClassVar[str] = "torch"
    fails: str = ""
    runs: dict[str, list] = field(default_factory=dict)

    def open(self, run: Logged) -> "FakeSink":
        self.check("open")
        name = run.known["id"] if run.known else str(len(self.runs))
        self.runs.setdefault(name, []).append(("open", run.name, dict(run.settings)))
        return FakeSink(self, name, max([-1, *self.steps(name)]))

    def check(self, what: str) -> None:
        if self.fails == what:
            raise ConnectionError(f"no {what}")

    def steps(self, name: str = "0") -> list[int]:
        return [entry[1] for entry in self.runs[name] if entry[0] == "log"]


class FakeSink:
    def __init__(self, logger: Fake, name: str, last_step: int) -> None:
        self.logger, self.memory, self.last_step = logger, {"id": name}, last_step
        self.told = logger.runs[name]

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.logger.check("log")
        self.told.append(("log", step, dict(metrics)))
        self.last_step = step

    def finish(self, figures: Mapping[str, float], genotype: str, step: int) -> None:
        self.logger.check("finish")
        self.told.append(("finish", dict(figures), genotype, step))

    def close(self, *, is_finished: bool) -> None:
        self.logger.check("close")
        self.told.append(("close", is_finished, None))


def run(
    folder: Path, epochs: range, *, ends: bool = False, start: int | None = None, **chosen: Logger
):
    """Some epochs of a run of four."""
    first = epochs[0] if start is None else start
    with Loggers(chosen, folder, folder.parent, "train", CONFIG) as loggers:
        loggers.on_start(Progress(first, 4, 0, STEPS))
        for epoch in epochs:
            metrics = {"test/accuracy": epoch / 10}
            loggers.on_epoch_end(EpochReport(epoch, 4, STEPS * (epoch + 1), metrics, False, 0.5))
        if ends:
            (folder / "result.json").write_text(json.dumps(RESULT))
            (folder / "genotype.json").write_text(CELL.to_json())
            (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 3, "step": 40}))
            loggers.conclude()


def test_a_run_sends_settings_points_and_outcome(tmp_path: Path):
    fake = Fake()
    run(tmp_path, range(4), ends=True, fake=fake)
    begin, *points, end, close = fake.runs["0"]
    assert begin == ("open", f"train {tmp_path.name}", {"seed": 3, "net.channels": 4})
    assert fake.steps() == [10, 20, 30, 40]
    more = {"epoch": 3, "time/seconds_per_epoch": 0.5}
    assert points[2] == ("log", 30, {"test/accuracy": 0.2, **more})
    assert end == ("finish", {"final/accuracy": 90.0, "final/seconds": 2.0}, CELL.to_json(), 40)
    assert close == ("close", True, None)


def test_a_resumed_run_goes_on_in_the_same_one_and_sends_no_point_twice(tmp_path: Path):
    fake = Fake()
    run(tmp_path, range(3), fake=fake)
    run(tmp_path, range(1, 4), ends=True, fake=fake)
    assert [*fake.runs] == ["0"] and fake.steps() == [10, 20, 30, 40]
    closed = [entry for entry in fake.runs["0"] if entry[0] == "close"]
    assert [entry[1] for entry in closed] == [False, True]


def test_a_run_that_begins_anew_in_the_same_folder_is_another(tmp_path: Path):
    fake = Fake()
    run(tmp_path, range(2), fake=fake)
    run(tmp_path, range(2), fake=fake)
    run(tmp_path, range(2, 4), fake=fake)
    assert fake.steps("0") == [10, 20] and fake.steps("1") == [10, 20, 30, 40]


@pytest.mark.parametrize("held", [[10, 20, 30], [10, 20], [10], []])
def test_points_that_a_logger_lacks_are_sent_from_the_lines_of_the_run(
    tmp_path: Path, held: list[int]
):
    """It may be killed with the run and have kept less than it was sent, or be new."""
    fake = Fake()
    run(tmp_path, range(3), fake=fake)
    assert json.loads((tmp_path / "loggers.json").read_text()) == {"fake": {"id": "0"}}
    kept = [entry for entry in fake.runs["0"] if entry[0] != "log" or entry[1] in held]
    fake.runs["0"] = kept
    lines = [
        {"epoch": i, "step": STEPS * (i + 1), "seconds": 0.5, "test/accuracy": i / 10, "best": True}
        for i in range(3)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    run(tmp_path, range(2, 4), fake=fake)  # the third epoch once more
    assert fake.steps() == [10, 20, 30, 40]
    points = [entry for entry in fake.runs["0"] if entry[0] == "log"]
    more = {"epoch": 2, "time/seconds_per_epoch": 0.5}
    assert points[1] == ("log", 20, {"test/accuracy": 0.1, **more})


@pytest.mark.parametrize("what", ["open", "log", "finish", "close"])
def test_a_failure_is_one_warning_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
):
    bad, good = Fake(fails=what), Fake()
    with caplog.at_level(logging.WARNING):
        run(tmp_path, range(4), ends=True, bad=bad, good=good)
    (record,) = caplog.records
    reason = f"the run goes on without logger=[bad]: ConnectionError: no {what}"
    assert record.getMessage() == reason
    assert [entry[0] for entry in good.runs["0"]] == ["open", *["log"] * 4, "finish", "close"]


@pytest.mark.parametrize("text", ["", "[1]", '{"fake": 3}', "{"])
def test_a_damaged_memory_begins_a_new_run(tmp_path: Path, text: str):
    (tmp_path / "loggers.json").write_text(text)
    fake = Fake()
    run(tmp_path, range(2, 4), fake=fake)
    assert fake.steps("0") == [30, 40]


def test_a_run_that_could_not_write_its_result_ends_without_outcome(tmp_path: Path):
    fake = Fake()
    (tmp_path / "metrics.jsonl").write_text("")
    with Loggers({"fake": fake}, tmp_path, tmp_path, "train", CONFIG) as loggers:
        loggers.on_start(Progress(0, 4, 0, STEPS))
        loggers.conclude()
    assert fake.runs["0"][-1] == ("close", False, None)


def test_without_loggers_nothing_is_written(tmp_path: Path):
    run(tmp_path, range(4))
    assert not [*tmp_path.iterdir()]
