"""How a program begins: whatever is wrong with its input is found before the run folder is made."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.cli.content import check_content, write_content
from darts_gdas.cli.errors import Mark
from darts_gdas.cli.memory import memory_errors
from darts_gdas.cli.resume import check_fingerprint, rank_timeout, tell_finished
from darts_gdas.cli.start import (
    Config,
    Start,
    open_folder,
    prepare,
    take_own_gpu,
)
from darts_gdas.runtime.distributed import ALONE, Ranks, lost_ranks, same_fate
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.journal import Journal
from darts_gdas.runtime.launch import command, is_follower, joined, setting, shell_quoted
from darts_gdas.runtime.saving import Writes
from darts_gdas.runtime.signals import Interrupted, StopRequest
from darts_gdas.runtime.terminal import PhaseLine, Terminal, put
from darts_gdas.runtime.work import Work

Built = TypeVar("Built")


@dataclass(frozen=True)
class Opened(Generic[Config, Built]):
    """A run whose input is right, in its locked folder.

    Attributes:
        name: The kind of run, which is the name of its program.
        start: Its configuration, and the checkpoint that it goes on from.
        built: What was built for it: its task, and what else the program has found.
        folder: Where it lies.
        fingerprint: Everything the results depend on, as text.
        terminal: Where it speaks.
        ranks: Who runs.
        mark: How far the program has come.
    """

    name: str
    start: Start[Config]
    built: Built
    folder: RunFolder
    fingerprint: str
    terminal: Terminal
    ranks: Ranks
    mark: Mark

    def begin(self, told: str) -> None:
        """Say so; from here on an error is no longer one of the input."""
        self.mark.blamed = ()
        self.mark.kept = f"checkpoints and measurements stand\n{self.how_to_go_on()}"
        if self.ranks.is_first:
            self.terminal.say(told)

    def how_to_go_on(self) -> str:
        """What to type to go on with a run that was stopped, or with the sweep that was."""
        if configuration.sweeps_here():
            again = setting("hydra.sweep.dir", configuration.sweep_root())
            return f"go on with: the same command and {shell_quoted(again)}"
        return f"go on with: {command(self.name, setting('resume', self.folder.path))}"

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        """Around work that a signal ends: says so, with how to go on, and exits by the signal."""
        try:
            yield
        except Interrupted as stop:
            if self.ranks.is_first:
                put(f"{stop}\n{self.how_to_go_on()}", sys.stderr)
            raise SystemExit(stop.exit_status) from None

    @contextlib.contextmanager
    def phases(self, told: str) -> Iterator[Work]:
        """Around long work outside the loop: how far it is, and an end at the first signal.

        Args:
            told: What was going on, for the words at such an end.
        """
        kept = "what is measured is kept"
        with self.stoppable():
            try:
                with (
                    StopRequest(f"stopping; {kept}") as request,
                    PhaseLine(self.terminal) as line,
                ):
                    work = Work(line, request, self.ranks, lambda: f"stopped {told}; {kept}")
                    yield work
                    work.heed()  # what came after its last look
            except Interrupted:
                self.ranks.wait()  # the first rank's launcher may just have requeued the job
                raise
            finally:
                self.ranks.watch.request = None  # of this phase

    def journal(
        self,
        name: str,
        writes: Writes,
        about: str = "",
        *,
        workers: int = 1,
        ranks: Ranks = ALONE,
    ) -> Journal:
        """Where measurements are kept, in the run's folder.

        Args:
            name: The file's name.
            writes: What becomes of the run where it cannot be written.
            about: What they depend on beside the run's settings and data.
            workers: Processes that measure side by side.
            ranks: Who measures, and calls this: the rank that opens it alone, or all ranks.
        """
        settings = f"{self.fingerprint} {about}".rstrip()
        path = self.folder.path / name if ranks.is_first else None
        found = Journal(path, settings, writes.attempt, workers, ranks)
        if len(found):
            self.terminal.say(f"going on with {len(found)} measurements of {found.path}")
        return found


@contextlib.contextmanager
def opened(
    mark: Mark,
    cfg: DictConfig,
    kind: type[Config],
    name: str,
    build: Callable[[Start[Config], Ranks], tuple[Built, dict[str, str]]],
) -> Iterator[Opened[Config, Built] | None]:
    """Check all input, then make the folder of a run and hold it.

    Entered inside of `program`, which tells errors in one line. The block is still a part of the
    checks until it calls `begin`.

    Args:
        mark: That of the program.
        cfg: As composed from the command line.
        kind: The typed configuration.
        name: The kind of run.
        build: Makes what the run needs; also says, by name, what the results depend on besides the
            configuration. Called by all ranks.

    Yields:
        The run; None if `resume=auto` meets a finished one.
    """
    with contextlib.ExitStack() as stack:
        terminal = Terminal(cfg.verbosity)
        terminal.listen(follows=is_follower())
        take_own_gpu(cfg.device)
        ranks = stack.enter_context(joined(rank_timeout(cfg)))
        stack.enter_context(lost_ranks(ranks, lambda: "outside the training loop"))
        start = prepare(cfg, kind, name, ranks)
        if start is None:
            yield None
            return
        stack.enter_context(memory_errors(start.config))
        with same_fate(ranks, ValueError, OSError):
            built, content = build(start, ranks)
            fingerprint = configuration.fingerprint(start.config, **content)
            if start.state is not None and start.folder is not None:
                check_fingerprint(start.state, fingerprint, start.folder, start.config)
            if start.is_finished and start.folder is not None and ranks.is_first:
                check_content(start.folder, start.cfg, content)
                tell_finished(start.folder)
        if start.is_finished:
            yield None
            return
        folder = ranks.from_first(lambda: stack.enter_context(open_folder(start)))
        if ranks.is_first:
            write_content(folder, start.cfg, content)
        yield Opened(name, start, built, folder, fingerprint, terminal, ranks, mark)
