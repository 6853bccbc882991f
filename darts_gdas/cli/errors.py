"""Wrong input in one line: what was given, and what is allowed."""

import contextlib
import difflib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from darts_gdas import config as configuration
from darts_gdas.cli.memory import OutOfMemory
from darts_gdas.reasons import installing
from darts_gdas.runtime.dataset import DataFault
from darts_gdas.runtime.distributed import FirstRankFailed
from darts_gdas.runtime.division import RankFailed
from darts_gdas.runtime.files import WriteError
from darts_gdas.runtime.launch import is_follower, setting, shell_quoted
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


CHOOSE_FIRST = (
    "a value is set inside a choice that is off; choose first, such as penalties=[cost] "
    "for penalties.cost.target, or perturbation=random for perturbation.epsilon.end"
)
"""What is said of a setting whose part is not chosen."""

LONGEST = 600
"""Characters of a message; a value that is a whole file is cut."""


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


def one_line(error: Exception) -> str:
    """An error in one line, with what is allowed in place of what was given."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        if choice.startswith("submitit_"):
            return f"this hydra/launcher needs submitit: {installing('slurm')}"
        known = error.options or sorted(configuration.GROUPS.get(group, ()))
        names = [option for option in known if not option.endswith("_schema")]
        hint = _hint(choice, names, cutoff=0.6) or ";"
        return f"{group}={choice} is not known{hint} choose one of {', '.join(names)}"
    if isinstance(error, OverrideParseException) and "=" not in error.override.strip("="):
        return f"{error.override!r} is no setting; write name=value, without blanks around the ="
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} cannot be read; quote the value: {_quoted(error.override)}"
    told = str(error)
    if isinstance(error, HydraException):  # any other says itself why
        told += f"\n{error.__cause__ or ''}"
    is_off = re.search(r"Cannot set '[^']+' because '[^']+' is None", told)  # omegaconf 2.4
    if is_off or (isinstance(error, AssertionError) and told.startswith("Unexpected type")):
        return CHOOSE_FIRST
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    whole = re.search(r"override ([\w.]+)=.*\nInvalid type assigned: \w+ is not a subclass", told)
    if whole:
        inside = [key for key in configuration.known_keys() if key.startswith(f"{whole[1]}.")]
        if inside:
            return f"{whole[1]!r} has parts: set {', '.join(inside)}"
    if "Config group override must be a string or a list" in told:
        return (
            "what is chosen for a part must be a name, or a list of names; a run's config.yaml "
            "holds no names, its overrides.yaml does"
        )
    there = re.search(r"An item is already at '([^']+)'\..*\n.*remove \+ prefix: '(.+)'\n", told)
    added = re.match(r"Multiple values for ([\w/]+)\. To override .*: ([^']+)'", told)
    if added and f"+{added[1]}={added[2]}" in sys.argv:
        return f"{added[1]!r} is chosen already, not one to add: {added[1]}={added[2]}"
    if there:
        return f"{there[1]!r} is a setting already, not one to add: {there[2]}"
    misspelt = re.match(r"Could not override '([^']+)'", lines[0]) if lines else None
    if misspelt:
        key, known = misspelt[1], configuration.known_keys()
        inside = re.search(rf"full_key: ({re.escape(key)}\.\S+)", told)
        key = inside[1] if inside else key
        if key in configuration.ADDABLE:
            return f"{key!r} is added to the settings: +{key}=NAME"
        if key in known and key.startswith("penalties."):
            return CHOOSE_FIRST
        if key in known:
            return f"{key!r} is a setting of another program, or of another choice of a group"
        return f"there is no setting {key!r}{_hint(key, known)}"
    internal = re.compile(r"(full_key|reference_type|object_type)\b")
    text = "; ".join(line for line in lines if not internal.match(line)) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _hint(word: str, known: Sequence[str], cutoff: float = 0.5) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""


def _quoted(override: str) -> str:
    """An override that hydra could read, as it is typed."""
    name, _, value = override.partition("=")
    return shell_quoted(setting(name, value.strip("'\"")))
