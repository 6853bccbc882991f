"""Where a run goes, and from where it goes on."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import yaml
from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.cli.resume import CONFIG, NEVER_RECORDED, OVERRIDES, find, named_checkpoint
from darts_gdas.config import AnyConfig
from darts_gdas.runtime.checkpoint import CheckpointFolder, State
from darts_gdas.runtime.compute import Device
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.files import RunFolder, write_text
from darts_gdas.runtime.launch import hidden_gpus, take_gpu
from darts_gdas.runtime.plugins import load_plugins

logger = logging.getLogger(__name__)

Config = TypeVar("Config", bound=AnyConfig)


@dataclass(frozen=True)
class Start(Generic[Config]):
    """Where a run begins.

    Attributes:
        config: Typed and checked.
        cfg: The same as composed, to be written down.
        root: Where a new run's folder is made.
        folder: The run's folder if it is determined already; None in a new run.
        overrides: What the user asked for, now and when the run was first started.
        state: The checkpoint to go on from, or None.
        is_finished: Whether the run has ended already, and its data alone are to be compared.
    """

    config: Config
    cfg: DictConfig
    root: Path
    folder: RunFolder | None
    overrides: list[str]
    state: State | None
    is_finished: bool = False


def take_own_gpu(device: Device = Device.cpu) -> None:
    """In a sweep over this machine's GPUs, see no other than this job's; call before CUDA's use.

    A job of another kind that sees no GPU though there are some goes on, with a warning.

    Args:
        device: Where it is to compute.

    Raises:
        ValueError: If the sweep would run several jobs at once on a GPU, or hides them all.
    """
    number, hidden = configuration.local_job(), hidden_gpus()
    if number is not None:
        take_gpu(number)
    elif device is Device.auto and hidden and not configuration.hides_gpus(unasked=False):
        if configuration.hides_gpus(unasked=True):
            raise ValueError(
                "this launcher hides all GPUs unless it is told how many there are: pass "
                "hydra.launcher.gpus_per_node=N and hydra.sweeper.max_batch_size=N, or device=cpu"
            )
        logger.warning(
            "CUDA_VISIBLE_DEVICES is empty, so this machine's %d GPUs are not used; device=cpu "
            "says that this is meant",
            hidden,
        )


def prepare(
    cfg: DictConfig, kind: type[Config], name: str, ranks: Ranks = ALONE
) -> Start[Config] | None:
    """Find the run folder and the checkpoint; None if `resume=auto` meets a finished run.

    A resumed run repeats the overrides it was started with, then this command's. The first rank
    looks, the others are told.

    Args:
        cfg: As composed from this command.
        kind: The typed configuration.
        name: Name of the kind of run.
        ranks: Who runs.

    Raises:
        ValueError: If a value has no meaning, or there is nothing (valid) to resume.
    """
    if ranks.size > 1 and configuration.sweeps_here():
        raise ValueError(
            f"--multirun among {ranks.size} ranks: each of them would sweep by itself. Start one "
            "run with torchrun, or the sweep with a launcher (docs/cluster.md)"
        )
    load_plugins()  # a launcher's job has not come in by a program's door
    overrides = configuration.task_overrides()
    if ranks.is_first:
        for key, values in configuration.said_again(overrides).items():
            text = "%s is given %d times (%s); the last one counts: %s"
            logger.warning(text, key, len(values), ", ".join(values), values[-1])
    config = configuration.typed(cfg, kind)
    root = Path(config.outputs) / name

    def look() -> tuple[RunFolder | None, State | None, list[str], bool] | None:
        found = find(config, root, name, overrides)
        return found and (*found, found[0] is not None and found[0].result.exists())

    found = ranks.from_first(look)
    if found is None:
        return None
    folder, state, said, is_finished = found
    if said != overrides:
        cfg = configuration.recompose(said)
        config = configuration.typed(cfg, kind)
    return Start(config, cfg, root, folder, said, state, is_finished)


@contextlib.contextmanager
def open_folder(start: Start[Config]) -> Iterator[RunFolder]:
    """Make the run folder, lock it for the time of the run, write down what is run.

    Raises:
        ValueError: If the folder cannot be made or another process runs in it.
    """
    folder = RunFolder.new(start.root) if start.folder is None else start.folder
    folder.create()
    with folder.lock():
        folder.remove_temporaries()
        name = named_checkpoint(start.config.resume)
        if name is not None:
            CheckpointFolder(folder.checkpoints).go_back_to(name)
        write_text(folder.path / CONFIG, configuration.to_yaml(start.cfg))
        kept = [item for item in start.overrides if not item.startswith(NEVER_RECORDED)]
        write_text(folder.path / OVERRIDES, yaml.safe_dump(kept))
        yield folder
