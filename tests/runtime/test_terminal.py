import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest
import torch

from darts_gdas.runtime import terminal as module
from darts_gdas.runtime.meter import Meter
from darts_gdas.runtime.task import EpochReport, Progress
from darts_gdas.runtime.terminal import (
    EpochTable,
    PhaseLine,
    Terminal,
    Verbosity,
    for_who_waits,
    painted,
)

COLUMNS = {"train": "train/accuracy", "validation": "validation/accuracy", "loss": "train/loss"}
ANSI = re.compile(r"\x1b\[\d+m")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def report(epoch: int, *, is_best: bool = False, **metrics: float) -> EpochReport:
    shown = {"train/loss": 1.25, "train/accuracy": 0.5} | metrics
    return EpochReport(epoch, 12, 5 * (epoch + 1), shown, is_best, 75.0 if epoch else 2.0)


def test_a_file_gets_a_table_of_plain_rows(clock: Clock):
    stream = io.StringIO()
    table = EpochTable(Terminal(stream=stream), COLUMNS)
    table.on_start(Progress(0, 12, 0, 5))
    table.on_step(Progress(0, 12, 1, 5), Meter())
    clock.now += 2
    table.on_epoch_end(report(0, is_best=True))
    clock.now += 10
    table.on_epoch_end(report(1))
    table.on_stop()
    header, *rows = stream.getvalue().splitlines()
    assert header.split() == ["epoch", "train", "loss", "time", "left", "best"]
    assert rows[0].split() == ["1/12", "50.00", "%", "1.2500", "2.0", "s", "00:22", "*"]
    assert rows[1].split() == ["2/12", "50.00", "%", "1.2500", "01:15", "01:00"]  # 12 s for 2 of 12
    for word, value in (("train", "50.00 %"), ("loss", "1.2500"), ("left", "00:22")):
        assert header.index(word) + len(word) == rows[0].index(value) + len(value)


def test_time_left_counts_what_was_done_since_a_resume(clock: Clock):
    stream = io.StringIO()
    table = EpochTable(Terminal(stream=stream), COLUMNS)
    table.on_start(Progress(9, 12, 3, 5))  # after step 48 of 60
    clock.now += 4
    table.on_epoch_end(report(9))  # 2 steps in 4 s, 10 to go
    assert "00:20" in stream.getvalue()


def test_columns_are_named_again_where_they_change(clock: Clock):
    stream = io.StringIO()
    table = EpochTable(Terminal(stream=stream), COLUMNS)
    table.on_start(Progress(0, 12, 0, 5))
    for epoch, metrics in enumerate(({}, {}, {"validation/accuracy": 0.25}, {})):
        table.on_epoch_end(report(epoch, **metrics))
    lines = stream.getvalue().splitlines()
    assert [i for i, line in enumerate(lines) if "epoch" in line] == [0, 3, 5]
    assert "validation" in lines[3] and "25.00 %" in lines[4]


def test_a_terminal_gets_a_bar_that_goes_on_where_a_resumed_run_stands():
    screen = Screen()
    table = EpochTable(Terminal(stream=screen), COLUMNS)
    table.on_start(Progress(1, 3, 2, 5))
    assert table.bar is not None and table.bar.n == 7 and table.bar.total == 15
    table.on_step(Progress(1, 3, 3, 5), Meter())
    assert table.bar.n == 8
    table.on_epoch_end(report(1, is_best=True))
    table.on_stop()
    assert table.bar.disable  # closed
    assert "\x1b[32m" in screen.getvalue() and "2/12" in screen.getvalue()


def test_colours_are_for_terminals_and_can_be_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert painted("x", module.RED, io.StringIO()) == "x"
    shown = painted("x", module.RED, Screen())
    assert shown != "x" and ANSI.sub("", shown) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert painted("x", module.RED, Screen()) == "x"


@pytest.mark.parametrize("stream", [Screen(), io.StringIO()])
def test_quiet_says_nothing_along_the_way(stream: io.StringIO):
    terminal = Terminal(Verbosity.quiet, stream)
    terminal.say("starting")
    table = EpochTable(terminal, COLUMNS)
    table.on_start(Progress(0, 12, 0, 5))
    table.on_step(Progress(0, 12, 1, 5), Meter())
    table.on_epoch_end(report(0))
    table.on_stop()
    with PhaseLine(terminal) as phase:
        phase("scoring", 4, 4)
    assert stream.getvalue() == ""


def test_verbose_tells_how_an_epoch_goes(clock: Clock):
    stream, meter = io.StringIO(), Meter()
    table = EpochTable(Terminal(Verbosity.verbose, stream), COLUMNS)
    table.on_start(Progress(0, 2, 0, 40))
    for step in range(1, 41):
        clock.now += 0.5
        meter.add({"train/accuracy": (torch.tensor(1.0), 4)})
        table.on_step(Progress(0, 2, step, 40), meter)
    lines = stream.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"epoch 1/2, step {step}/40" for step in range(4, 40, 4)
    ]
    assert all("train 25.00 %" in line and "2.00 steps/s" in line for line in lines)


def test_phases_say_how_far_they_are_and_what_is_left(clock: Clock):
    stream = io.StringIO()
    with PhaseLine(Terminal(stream=stream)) as phase:
        for done in range(9):
            phase("scoring", done, 8)
            clock.now += 3
        phase("drawing", 1, 1)
    assert stream.getvalue().splitlines() == [
        "scoring: 0 of 8",
        "scoring: 2 of 8, 00:18 left",
        "scoring: 4 of 8, 00:12 left",
        "scoring: 6 of 8, 00:06 left",
        "scoring: 8 of 8",
        "drawing: 1 of 1",
    ]


def test_long_phases_say_how_far_they_are_within_seconds(clock: Clock):
    """After 5 s, then each time that as much time has gone by as up to the line before."""
    stream, said = io.StringIO(), []
    with PhaseLine(Terminal(stream=stream)) as phase:
        for done in range(150):
            phase("pruning", done, 1000)
            said.append(stream.getvalue().count("\n"))
            clock.now += 1
    times = [0, *(t for t in range(1, 150) if said[t] > said[t - 1])]
    assert times == [0, 5, 10, 20, 40, 80]
    assert stream.getvalue().splitlines()[:2] == [
        "pruning: 0 of 1000",
        "pruning: 5 of 1000, 16:35 left",
    ]


def test_who_waits_is_told_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch):
    for stream, speaks in ((Screen(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with for_who_waits() as told:
            told("exporting", 0, 1)
        assert ("exporting" in stream.getvalue()) is speaks


@pytest.fixture
def loggers() -> Iterator[None]:
    """The levels of loggers are the process's own."""
    found = [logging.getLogger(), logging.getLogger("darts_gdas")]
    levels = [logger.level for logger in found]
    yield
    for logger, level in zip(found, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize(
    ("verbosity", "follows", "level"),
    [
        (Verbosity.quiet, False, logging.WARNING),
        (Verbosity.normal, False, logging.WARNING),
        (Verbosity.verbose, False, logging.INFO),
        (Verbosity.verbose, True, logging.ERROR),
    ],
)
def test_levels_of_what_is_logged(loggers: None, verbosity: Verbosity, follows: bool, level: int):
    Terminal(verbosity, io.StringIO()).listen(follows=follows)
    assert logging.getLogger("darts_gdas.runtime.loop").getEffectiveLevel() == level
    assert logging.getLogger("matplotlib").getEffectiveLevel() >= logging.WARNING


@pytest.mark.parametrize(
    ("level", "start"),
    [(logging.INFO, "it is so"), (logging.WARNING, "warning: it"), (logging.ERROR, "error: it")],
)
def test_what_is_logged_is_told_as_the_programs_say_it(level: int, start: str):
    record = logging.LogRecord("darts_gdas.x", level, "x.py", 1, "it is %s", ("so",), None)
    for stream in (io.StringIO(), Screen()):
        assert ANSI.sub("", module._Told(stream).format(record)).startswith(start)
