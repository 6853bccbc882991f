"""How this process was started: in which words; by itself, by `torchrun`, or by Slurm's `srun`."""

import contextlib
import hashlib
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from darts_gdas.reasons import python
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.watch import Watch, check_patience

COMMAND = "darts-gdas"
"""The console command of an installed package."""


SCRIPTS = ("search", "train")
"""Programs that have a file of their own in a checkout."""

DEVICES = Path("/dev")
"""Where a GPU that this machine has is a file."""

own_door: ContextVar[str | None] = ContextVar("own_door", default=None)
"""The script of a user that has called the command of all programs, such as `arrays.py`."""

_PLAIN = re.compile(r"[A-Za-z_./][\w./:+%@-]*", re.ASCII)
_OTHER_TYPES = frozenset(("null", "true", "false", "nan", "inf"))
_NEED_SINGLE_QUOTES = frozenset('"$`\\!\n')


def command(program: str, *arguments: str) -> str:
    """What to paste into a shell to start a program, in the words in which this one was started.

    Args:
        program: Its name, such as "train".
        arguments: As it gets them, a setting as `setting` writes it; quoted for the shell here.
    """
    return " ".join(map(shell_quoted, [*_door(program), *arguments]))


def setting(name: str, value: object) -> str:
    """A setting as it stands on the command line, its value quoted for hydra where that is needed.

    Example:
        >>> setting("dataset.root", "photos (new)"), setting("seed", 3), setting("run_dir", None)
        ("dataset.root='photos (new)'", 'seed=3', 'run_dir=null')
    """
    if value is None or isinstance(value, bool):
        return f"{name}={'null' if value is None else str(value).lower()}"
    text = str(value)
    text = without_references(text) if isinstance(value, Path) else text
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _OTHER_TYPES
    if is_plain or isinstance(value, int | float):
        return f"{name}={text}"
    # In quotes, hydra takes back a backslash before a quote, and pairs of them before one.
    escaped = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), text)
    return f"{name}='{escaped}'"


def without_references(text: str) -> str:
    """A text that holds `${`, so that it names no other setting where hydra reads it."""
    return re.sub(r"(\\*)\$\{", lambda m: f"{2 * m[1]}\\${{", text)


def retraining(genotype: Path | str, overrides: Iterable[str]) -> str:
    """The command that trains a found cell, on the data that it was found on.

    Args:
        genotype: The search's run folder, or what else names the cell.
        overrides: What the user asked for then; the data set among it is repeated as it stands.
    """
    data = [item for item in overrides if re.match(r"\+*dataset[=.]", item)]
    return command("train", setting("genotype", genotype), *data)


def shell_quoted(argument: str) -> str:
    """An argument for a POSIX shell; `shlex.quote`, but readable where there are single quotes."""
    if "'" in argument and not _NEED_SINGLE_QUOTES & set(argument):
        return f'"{argument}"'
    return shlex.quote(argument)


def _door(program: str) -> list[str]:
    """The words before a program's arguments."""
    script = Path(sys.argv[0])
    if script.name == COMMAND:
        return [COMMAND, program]
    started = sys.modules["__main__"].__spec__  # of `python -m`, also of a user's own package
    if (
        own_door.get() == sys.argv[0]
        and script.name == "__main__.py"
        and started
        and started.parent
    ):
        return [python(), "-m", str(started.parent), program]
    if own_door.get() == sys.argv[0]:
        return [python(), sys.argv[0], program]
    if program not in SCRIPTS:
        return [python(), "-m", f"darts_gdas.{program}"]
    if script.name in [f"{name}.py" for name in SCRIPTS]:
        return [python(), str(script.with_name(f"{program}.py"))]
    checkout = Path(__file__).parents[2] / f"{program}.py"
    if not checkout.is_file():
        return [COMMAND, program]
    return [python(), checkout.name if checkout.parent == Path.cwd() else str(checkout)]


@contextlib.contextmanager
def joined(timeout_minutes: float) -> Iterator[Ranks]:
    """The ranks among which this process was started: by `torchrun`, or by `srun`.

    Args:
        timeout_minutes: How long a rank waits for another that gives no sign of life.

    Raises:
        ValueError: If the variables are incomplete or make no sense.
    """
    _take_from_slurm()
    size = _number("WORLD_SIZE", default=1, least=1)
    if size == 1:
        yield ALONE
        return
    check_patience(timeout_minutes)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise ValueError(f"WORLD_SIZE is {size}, but {name} is not set; start with torchrun")
    rank = _number("RANK", default=None, least=0)
    local_rank = _number("LOCAL_RANK", default=rank, least=0)
    if rank >= size:
        raise ValueError(f"RANK must be less than WORLD_SIZE={size}, got {rank}")
    backend = "gloo"
    if torch.cuda.is_available():
        local_rank %= torch.cuda.device_count()
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend, rank=rank, world_size=size, timeout=timedelta(minutes=timeout_minutes)
    )
    try:
        yield Ranks(rank, size, local_rank, Watch(60 * timeout_minutes))
    finally:
        dist.destroy_process_group()


def _take_from_slurm() -> None:
    """Set torchrun's variables where `srun` has started several tasks, and nobody else did."""
    slurm = os.environ
    if "WORLD_SIZE" in slurm or slurm.get("SLURM_NTASKS", "1") == "1":
        return
    if not {"SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_ID"} <= slurm.keys():
        return  # in the batch script, not in a task
    job = f"{slurm.get('SLURM_JOB_ID', '')}.{slurm['SLURM_STEP_ID']}"
    port = 20000 + int(hashlib.sha256(job.encode()).hexdigest(), 16) % 20000
    hosts = slurm.get("SLURM_STEP_NODELIST", slurm.get("SLURM_JOB_NODELIST", "localhost"))
    slurm.setdefault("MASTER_ADDR", first_host(hosts))
    slurm.setdefault("MASTER_PORT", str(port))
    slurm["WORLD_SIZE"], slurm["RANK"] = slurm["SLURM_NTASKS"], slurm["SLURM_PROCID"]
    slurm["LOCAL_RANK"] = slurm["SLURM_LOCALID"]


def take_gpu(number: int) -> None:
    """Leave this process one of the GPUs it may see; call before any of them is used.

    Args:
        number: The process's number among those that share the GPUs; they go round.
    """
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if visible:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[number % len(visible)]


def hidden_gpus() -> int:
    """How many GPUs this machine has where CUDA_VISIBLE_DEVICES is empty, so that none is used."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        return 0
    return sum(path.name.removeprefix("nvidia").isdigit() for path in DEVICES.glob("nvidia*"))


def first_host(hosts: str) -> str:
    """The first of Slurm's list of hosts, `gpu[03-07,12],login1`: here gpu03."""
    first = re.match(r"([^\[,]+)(?:\[(\w+)[^\]]*\])?([^,]*)", hosts)
    if first is None:
        raise ValueError(f"this is no list of hosts: {hosts!r}")
    return first[1] + (first[2] or "") + first[3]


def is_follower() -> bool:
    """Whether this process was started as another rank than the first: what it says, all say."""
    _take_from_slurm()
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"


def _number(name: str, *, default: int | None, least: int) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isdigit() or int(text) < least:
        raise ValueError(f"the variable {name} must be a number from {least} on, got {text!r}")
    return int(text)
