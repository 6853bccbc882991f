"""What a run says on the terminal: a bar, a table with a row per epoch, phases of long work.

Colours and bars are for terminals; a file gets plain lines.
"""

import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Mapping
from enum import Enum
from typing import TextIO

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from darts_gdas.runtime.meter import Meter
from darts_gdas.runtime.task import Callback, EpochReport, Progress

BOLD, RED, GREEN, YELLOW = "1", "31", "32", "33"
"""Styles of `painted`, as numbers of ANSI's SGR."""

WIDTH = 8
"""The least width of a column: "100.00 %"."""

FIRST_LINES = 5.0
"""Seconds between the first lines of a phase; later ones come less and less often."""

PARTS = 10
"""Parts of an epoch after which `Verbosity.verbose` tells how it goes."""


class Verbosity(Enum):
    """How much a run says.

    `quiet`: warnings, errors, how to go on after a stop, and the summary. `normal`: a row per
    epoch too, and a bar on a terminal. `verbose`: also how an epoch goes, and what is saved.
    """

    quiet = "quiet"
    normal = "normal"
    verbose = "verbose"


def painted(text: str, style: str, stream: TextIO) -> str:
    """The text in a style, where the stream is a terminal and NO_COLOR is not set."""
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{style}m{text}\x1b[0m"


def complain(text: str, kind: str = "error") -> None:
    """A line on stderr about what is wrong.

    Args:
        text: What.
        kind: "error", or "warning" where work goes on.
    """
    style = RED if kind == "error" else YELLOW
    put(f"{painted(f'{kind}:', style, sys.stderr)} {text}", sys.stderr)


def put(text: str, stream: TextIO) -> None:
    """A line of what happens. Work does not end for want of a place to tell of it.

    A log on a full disc and a terminal that is gone take nothing, in silence; what counts lies in
    files of its own.

    Raises:
        BrokenPipeError: Whoever read it has ended.
    """
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        pass


class Terminal:
    """Where a run speaks to people.

    Args:
        verbosity: How much is said.
        stream: Where to, by default stderr.
    """

    def __init__(
        self, verbosity: Verbosity = Verbosity.normal, stream: TextIO | None = None
    ) -> None:
        self.verbosity = verbosity
        self.stream = sys.stderr if stream is None else stream

    def listen(self, *, follows: bool = False) -> None:
        """Show what the modules log, in lines of the same form.

        Args:
            follows: Whether another rank says the same, so that errors alone are worth it.
        """
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(_Told(self.stream))
        logging.basicConfig(handlers=[handler])
        logging.getLogger().setLevel(logging.ERROR if follows else logging.WARNING)
        speaks = self.verbosity is Verbosity.verbose and not follows
        logging.getLogger("darts_gdas").setLevel(logging.INFO if speaks else logging.NOTSET)

    def say(self, text: str) -> None:
        """A line, unless the run is to be quiet."""
        if self.verbosity is not Verbosity.quiet:
            put(text, self.stream)

    def bar(self, done: int, total: int, *, unit: str = "it", what: str = "") -> tqdm | None:
        """A bar that stands at `done`; None where it would be no bar, or nothing is to be said."""
        if self.verbosity is Verbosity.quiet or not self.stream.isatty() or done >= total:
            return None
        return tqdm(
            total=total,
            initial=done,
            unit=unit,
            desc=what or None,
            file=self.stream,
            dynamic_ncols=True,
            leave=False,
        )


class EpochTable(Callback):
    """A row per epoch with the time left; above it a bar, on a terminal.

    Args:
        terminal: Where to.
        columns: Metrics to show, by their short names; those that a run does not have are left out.
    """

    def __init__(self, terminal: Terminal, columns: Mapping[str, str]) -> None:
        self.terminal = terminal
        self.columns = columns
        self.bar: tqdm | None = None
        self._header: list[str] = []
        self._clock = _Clock(0, 0)
        self._closing = contextlib.ExitStack()

    def on_start(self, progress: Progress) -> None:
        """Open the bar; nothing happens where the output is a file."""
        total = progress.num_epochs * progress.steps_per_epoch
        self._clock = _Clock(progress.global_step, total)
        self.bar = self.terminal.bar(progress.global_step, total, unit="step")
        if self.bar is not None:
            self._closing.callback(self.bar.close)
            self._closing.enter_context(logging_redirect_tqdm())  # warnings go above the bar

    def on_step(self, progress: Progress, meter: Meter) -> None:
        """Move the bar by one step; say how the epoch goes, if that is wanted."""
        epoch = f"epoch {min(progress.epoch + 1, progress.num_epochs)}/{progress.num_epochs}"
        if self.bar is not None:
            self.bar.set_description(epoch, refresh=False)
            self.bar.update()
        if self.terminal.verbosity is Verbosity.verbose:
            step, steps = progress.step, progress.steps_per_epoch
            if step < steps and step % math.ceil(steps / PARTS) == 0:
                means = meter.means()
                cells = [f"{label} {_format(n, means[n])}" for label, n in self._known(means)]
                speed = f"{self._clock.speed(progress.global_step):.2f} steps/s"
                self._say("  ".join([f"{epoch}, step {step}/{steps}:", *cells, speed]))

    def on_epoch_end(self, report: EpochReport) -> None:
        """One row; the names of the columns before the first, and where they change."""
        known = self._known(report.metrics)
        width = len(str(report.num_epochs))
        first = f"{report.epoch + 1:>{width}}/{report.num_epochs}"
        header = ["epoch", *(label for label, _ in known), "time", "left", "best"]
        values = [
            first,
            *(_format(name, report.metrics[name]) for _, name in known),
            _span(report.seconds),
            tqdm.format_interval(self._clock.left(report.step)),
            "*" if report.is_best else "",
        ]
        widths = [max(len("epoch"), 2 * width + 1), *(max(len(h), WIDTH) for h in header[1:-1]), 4]
        if header != self._header:
            self._header = header
            self._say(_row(header, widths), BOLD)
        self._say(_row(values, widths), GREEN if report.is_best else None)

    def on_stop(self) -> None:
        """Remove the bar."""
        self._closing.close()

    def _known(self, metrics: Mapping[str, float]) -> list[tuple[str, str]]:
        return [(label, name) for label, name in self.columns.items() if name in metrics]

    def _say(self, line: str, style: str | None = None) -> None:
        line = line if style is None else painted(line, style, self.terminal.stream)
        if self.bar is not None:
            self.bar.write(line, file=self.terminal.stream)
        else:
            self.terminal.say(line)


class PhaseLine:
    """How far a phase of long work outside the epochs is: a bar on a terminal, else a few lines.

    A line comes at once, after every quarter, and where none has come for as long as the phase has
    taken by then, from some seconds on.

    Args:
        terminal: Where to.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._bar: tqdm | None = None
        self._phase = ""
        self._clock = _Clock(0, 0)
        self._due = 0.0

    def __enter__(self) -> "PhaseLine":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __call__(self, phase: str, done: int, total: int) -> None:
        """`done` of `total` in this phase."""
        if phase != self._phase:
            self.__exit__()
            self._phase, self._clock, self._due = phase, _Clock(done, total), 0.0
            self._bar = self.terminal.bar(done, total, what=phase)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if done == total or done % max(total // 4, 1) == 0 or now >= self._due:
            self._due = now + max(now - self._clock.since, FIRST_LINES)
            left = self._clock.left(done)
            told = f", {tqdm.format_interval(left)} left" if left else ""
            self.terminal.say(f"{phase}: {done} of {total}{told}")


def for_who_waits() -> PhaseLine:
    """Phases of a program whose output is its answer: in a file they would be noise."""
    return PhaseLine(Terminal(Verbosity.normal if sys.stderr.isatty() else Verbosity.quiet))


class _Told(logging.Formatter):
    """What is logged, as the programs say it: information by itself, the rest with its kind."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        text = super().format(record)
        if record.levelno <= logging.INFO:
            return text
        style = YELLOW if record.levelno == logging.WARNING else RED
        return f"{painted(f'{record.levelname.lower()}:', style, self.stream)} {text}"


class _Clock:
    """How long the rest takes, if it goes on as it went since the clock was made.

    Args:
        begin: Steps done by then.
        total: Steps in all.
    """

    def __init__(self, begin: int, total: int) -> None:
        self.begin, self.total = begin, total
        self.since = time.monotonic()

    def speed(self, done: int) -> float:
        """Steps per second; 0 before the first."""
        return (done - self.begin) / max(time.monotonic() - self.since, 1e-9)

    def left(self, done: int) -> float:
        """Seconds; 0 where nothing is known."""
        speed = self.speed(done)
        return (self.total - done) / speed if speed > 0 else 0.0


def _row(cells: list[str], widths: list[int]) -> str:
    """Numbers to the right."""
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else tqdm.format_interval(seconds)


def _format(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if "accuracy" in name else f"{value:.4f}"
