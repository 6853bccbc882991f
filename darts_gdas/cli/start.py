"""Where a run goes, and from where it goes on."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import yaml
from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.config import AnyConfig
from darts_gdas.runtime.checkpoint import CheckpointError, CheckpointFolder, State, load
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.files import RunFolder, check_writable, write_text
from darts_gdas.runtime.launch import take_gpu
from darts_gdas.runtime.plugins import load_plugins
from darts_gdas.runtime.state import check_state

Config = TypeVar("Config", bound=AnyConfig)

OVERRIDES = "overrides.yaml"
NEVER_RECORDED = ("resume=", "run_dir=", "verbosity=", "hydra.", "hydra/")
"""Overrides that say where a run goes, and how much it says: this command alone may."""


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
    """

    config: Config
    cfg: DictConfig
    root: Path
    folder: RunFolder | None
    overrides: list[str]
    state: State | None


def take_own_gpu() -> None:
    """In a sweep over this machine's GPUs, see no other than this job's; call before CUDA's use.

    Raises:
        ValueError: If the sweep would run several jobs at once on a GPU.
    """
    number = configuration.local_job()
    if number is not None:
        take_gpu(number)


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
    config = configuration.typed(cfg, kind)
    root = Path(config.outputs) / name
    found = ranks.from_first(lambda: _find(config, root, name, overrides))
    if found is None:
        return None
    folder, state, said = found
    if said != overrides:
        cfg = configuration.recompose(said)
        config = configuration.typed(cfg, kind)
    return Start(config, cfg, root, folder, said, state)


def _find(
    config: AnyConfig, root: Path, name: str, overrides: list[str]
) -> tuple[RunFolder | None, State | None, list[str]] | None:
    """Folder, checkpoint, and the overrides said now and when the run was first started."""
    folder, state = _folder(config, root), None
    if config.resume != "none" and folder is not None:
        state = _state(config.resume, folder)
        if state is not None:
            check_state(state, name)
        elif folder.result.exists():
            print(f"{folder.path} has finished already; nothing to resume")
            return None
        recorded = folder.path / OVERRIDES
        if recorded.exists():
            everything = [*_read_overrides(recorded), *overrides]
            overrides = list(dict.fromkeys(everything[::-1]))[::-1]  # each once, where said last
    check_writable(root if folder is None else folder.path)
    if folder is not None:
        folder.check_free()
    return folder, state, overrides


def _read_overrides(path: Path) -> list[str]:
    try:
        overrides = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        overrides = None
    if not isinstance(overrides, list) or not all(isinstance(item, str) for item in overrides):
        raise ValueError(f"{str(path)!r} is damaged: it must list the run's overrides")
    foreign = [item for item in overrides if item.lstrip("+~").startswith(NEVER_RECORDED)]
    if foreign:
        raise ValueError(f"{str(path)!r} holds {foreign[0]!r}, which no run records; take it out")
    return overrides


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
        write_text(folder.path / "config.yaml", configuration.to_yaml(start.cfg))
        kept = [item for item in start.overrides if not item.startswith(NEVER_RECORDED)]
        write_text(folder.path / OVERRIDES, yaml.safe_dump(kept))
        yield folder


def _folder(config: AnyConfig, root: Path) -> RunFolder | None:
    """The folder to run in; None for one that is still to be made."""
    given = config.run_dir or configuration.sweep_folder()
    if config.resume == "auto":
        return RunFolder(Path(given)) if given else RunFolder.newest(root, finished=False)
    if config.resume == "none":
        folder = RunFolder(Path(given)) if given else None
        if folder and (folder.result.exists() or any(folder.checkpoints.glob("*.pt"))):
            raise ValueError(
                f"run_dir {str(folder.path)!r} holds a run already; pass resume=auto to go on "
                "with it, or another run_dir"
            )
        return folder
    folder = _folder_of(Path(config.resume))
    if config.run_dir and Path(config.run_dir).resolve() != folder.path.resolve():
        raise ValueError(
            f"resume={config.resume} goes on in its own folder; drop run_dir={config.run_dir}"
        )
    return folder


def _folder_of(path: Path) -> RunFolder:
    """The run folder that a path names, or that a checkpoint lies in."""
    if path.is_dir():
        folder = RunFolder(path)
        if not any(folder.checkpoints.glob("*.pt")) and not any(path.glob("*.jsonl")):
            raise ValueError(f"resume={path} is a folder without checkpoints")
    elif path.is_file():
        folder = RunFolder(path.parent.parent)
        if path.parent.name != folder.checkpoints.name:
            raise ValueError(
                f"resume={path} lies in no run folder; a checkpoint is RUN/checkpoints/NAME.pt"
            )
    else:
        raise ValueError(
            f"resume={path} does not exist; pass none, auto, a run folder or a checkpoint"
        )
    if folder.result.exists():
        raise ValueError(f"resume={path}: this run has finished already")
    return folder


def _state(resume: str, folder: RunFolder) -> State | None:
    """The state to go on from: that of the named checkpoint, or the newest of the folder."""
    if Path(resume).is_file():
        return load(Path(resume))
    if folder.result.exists():
        return None
    found = CheckpointFolder(folder.checkpoints).newest()
    return found and found[1]


def check_fingerprint(state: State, fingerprint: str) -> None:
    """Raise a `CheckpointError` that names the settings in which a resumed run differs."""
    try:
        was = dict(json.loads(state["fingerprint"]))
    except (TypeError, ValueError):
        raise CheckpointError("the checkpoint does not say what it was made with") from None
    now = json.loads(fingerprint)
    if was == now:
        return
    changes = [
        f"{key}: {was.get(key)} -> {now.get(key)}"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key)
    ]
    raise CheckpointError(
        f"the checkpoint was made with other settings ({'; '.join(changes[:5])}); "
        "resume with the same, or start a new run"
    )
