"""Wrong input in one line: what was given, and what is allowed."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from darts_gdas import config as configuration
from darts_gdas.cli.memory import OutOfMemory
from darts_gdas.cli.wording import one_line
from darts_gdas.runtime.dataset import DataFault
from darts_gdas.runtime.distributed import FirstRankFailed
from darts_gdas.runtime.division import RankFailed
from darts_gdas.runtime.files import WriteError
from darts_gdas.runtime.launch import is_follower
from darts_gdas.runtime.terminal import complain, put
from darts_gdas.runtime.usage import (
    FAULT,
    INTERRUPTED,
    USAGE_ERROR,
    end_if_unread,
    flush,
    replace_closed,
)
from darts_gdas.runtime.watch import RankLost
from darts_gdas.scoring.correlation import NothingTold

FAULTS = (
    FloatingPointError, OutOfMemory, WriteError, NothingTold, DataFault, RankFailed,
    ChildProcessError,
)  # fmt: skip
"""What may end a run whose input was right: diverged, out of memory, a full disc, no order, no
images any more, another rank's failure, a worker's death."""


class JobFailed(RuntimeError):
    """A job of a sweep that optimises has failed, and has said why: its trial is a failed one."""


@dataclass
class Mark:
    """How far a program has come, which tells the errors that are its user's.

    Attributes:
        blamed: The types of those errors: all while hydra composes, those of wrong values and
            files while the program looks at its input, none in a run that has begun.
        job: The folder of the job of a sweep that is running, said before its errors.
        kept: What is kept where Ctrl-C ends the program now.
    """

    blamed: tuple[type[Exception], ...] = (Exception,)
    job: str | None = None
    kept: str = "nothing was begun, and nothing is kept"


_mark: ContextVar[Mark | None] = ContextVar("mark", default=None)
"""That of the outermost `usage_errors`: between it and the program's own lies all of hydra."""


@contextlib.contextmanager
def usage_errors() -> Iterator[Mark]:
    """Turn an error of composition, and what else the mark blames, into one line and status 2.

    The faults of a run that has begun are one line too, with exit status 1; anything else keeps
    its traceback.
    """
    replace_closed()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let hydra raise instead of printing
    mark = _mark.get() or Mark()
    token = _mark.set(mark)
    try:
        yield mark
        flush()
    except KeyboardInterrupt:
        if not is_follower():
            put(f"interrupted; {mark.kept}", sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except FAULTS as error:
        _tell(error, mark)
        raise SystemExit(FAULT) from None
    except RankLost as error:  # not the same on every rank
        complain(one_line(error))
        raise SystemExit(FAULT) from None
    except JobFailed as error:
        complain(f"{error}; hydra.sweeper.max_failure_rate=1 goes on after failed jobs")
        raise SystemExit(FAULT) from None
    except FirstRankFailed:
        raise SystemExit(USAGE_ERROR) from None  # it has said why
    except Exception as error:
        end_if_unread(error)
        if not isinstance(error, (HydraException, OmegaConfBaseException, *mark.blamed)):
            raise
        _tell(error, mark)
        raise SystemExit(USAGE_ERROR) from None
    finally:
        _mark.reset(token)


@contextlib.contextmanager
def program() -> Iterator[Mark]:
    """`usage_errors` around a program that has its configuration.

    Where this process sweeps, an error of a run, whatever it is, ends that run alone and names it:
    the block is then left as if there had been none.

    Raises:
        JobFailed: In place of an error, where the sweeper asks for objectives.
    """
    here, optimises = configuration.sweeps_here(), configuration.optimises()
    failed = False
    try:
        with usage_errors() as mark:
            mark.blamed, mark.job = (ValueError, OSError), configuration.sweep_folder()
            yield mark
    except SystemExit as stop:
        if stop.code not in (FAULT, USAGE_ERROR) or not (here or optimises):
            raise
        failed = True
    except Exception as error:
        if not (here or optimises):
            raise
        traceback.print_exc()
        told = f"{type(error).__name__}: {one_line(error)}"
        complain(f"{configuration.sweep_folder()}: {told} (unexpected, told above)")
        failed = True
    if outer := _mark.get():
        outer.blamed, outer.job = Mark.blamed, None  # hydra may compose a next run
    if failed and optimises:
        raise JobFailed(f"{configuration.sweep_folder()} failed")


def _tell(error: Exception, mark: Mark) -> None:
    """In one line, once for all ranks."""
    if not is_follower():
        complain(f"{mark.job}: {one_line(error)}" if mark.job else one_line(error))
