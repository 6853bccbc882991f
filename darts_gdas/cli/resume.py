"""Which run a command goes on with: its folder, its checkpoint, its settings."""

import contextlib
import json
from pathlib import Path
from typing import TypeVar

import yaml
from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.cli.content import may_be_other
from darts_gdas.config import AnyConfig
from darts_gdas.runtime.checkpoint import CheckpointError, CheckpointFolder, State
from darts_gdas.runtime.files import RunFolder, check_writable
from darts_gdas.runtime.state import check_state
from darts_gdas.runtime.terminal import complain

Config = TypeVar("Config", bound=AnyConfig)

OVERRIDES, CONFIG = "overrides.yaml", "config.yaml"
TIMEOUT = "rank_timeout_minutes"
NEVER_RECORDED = ("resume=", "run_dir=", "verbosity=", "hydra.", "hydra/")
"""Overrides that say where a run goes, and how much it says: this command alone may."""


def find(
    config: AnyConfig, root: Path, name: str, overrides: list[str]
) -> tuple[RunFolder | None, State | None, list[str]] | None:
    """Folder, checkpoint, and the overrides said now and when the run was first started.

    None where there is nothing to do; a finished run whose data may be others by now is found.
    """
    folder, state = _folder(config, root), None
    if config.resume != "none" and folder is not None:
        try:
            state = _state(config.resume, folder)
            if state is not None:
                check_state(state, name)
        except CheckpointError as error:
            raise CheckpointError(f"{folder.path}: {error}{_choice(config)}") from None
        recorded = folder.path / OVERRIDES
        was = _read_overrides(recorded) if recorded.exists() else []
        together = list(dict.fromkeys([*was, *overrides][::-1]))[::-1]  # each where said last
        if state is not None or not recorded.exists():
            said: list[str] | None = together
        else:
            said = _without_state(config, folder, was, together)
        if state is None and folder.result.exists():
            if may_be_other(folder, configuration.recompose(together)):
                return folder, None, together
            tell_finished(folder)
            return None
        if said is None and not (config.run_dir or configuration.sweep_folder()):
            folder = None
        overrides = overrides if said is None else said
    check_writable(root if folder is None else folder.path)
    if folder is not None:
        folder.check_free()
    return folder, state, overrides


def tell_finished(folder: RunFolder) -> None:
    """Say that there is nothing to do."""
    print(f"{folder.path} has finished already; nothing to resume")


def _without_state(
    config: AnyConfig, folder: RunFolder, was: list[str], together: list[str]
) -> list[str] | None:
    """What is said of a run without a state: of a finished one, or one that has saved nothing yet.

    Args:
        config: As this command alone says.
        folder: The run's.
        was: What the run was started with.
        together: That, and this command.

    Returns:
        None where a new run is to begin with what this command says.

    Raises:
        ValueError: If the run is finished or was named, and had other settings.
    """
    before = configuration.typed(configuration.recompose(was), type(config))
    is_named = bool(config.run_dir or configuration.sweep_folder() or config.resume != "auto")
    now = config
    if is_named or all(item.startswith(NEVER_RECORDED) for item in configuration.task_overrides()):
        now = configuration.typed(configuration.recompose(together), type(config))
    changes = configuration.differences(before, now)
    if not changes:
        return together
    if folder.result.exists():
        raise ValueError(
            f"{folder.path} has finished with other settings ({changes}); its results are not "
            "those of this command. Pass another folder, or the same settings"
        )
    if config.resume != "auto":
        raise ValueError(f"{folder.path} was started with other settings ({changes})")
    hint = "" if is_named else f"; resume={folder.path} goes on with that one"
    complain(
        f"{folder.path} ended before its first checkpoint and had other settings ({changes}): a "
        f"new run begins{hint}",
        "warning",
    )
    return None


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


def _folder(config: AnyConfig | DictConfig, root: Path) -> RunFolder | None:
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
    elif path.is_file() or _began(path):
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


def named_checkpoint(resume: str) -> str | None:
    """The checkpoint's name, where `resume=` names one and not a folder."""
    path = Path(resume)
    return None if resume in ("none", "auto") or path.is_dir() else path.name


def _began(path: Path) -> bool:
    """Whether the present course began at a checkpoint, which itself may be gone by now."""
    return CheckpointFolder(path.parent).has_gone_back_to(path.name)


def _state(resume: str, folder: RunFolder) -> State | None:
    """The state to go on from: that of the named checkpoint, or the newest of the folder."""
    name = named_checkpoint(resume)
    if name is not None:
        return CheckpointFolder(folder.checkpoints).at(name)
    if folder.result.exists():
        return None
    found = CheckpointFolder(folder.checkpoints).newest()
    return found and found[1]


def check_fingerprint(state: State, fingerprint: str, folder: RunFolder, config: AnyConfig) -> None:
    """Raise a `CheckpointError` that names the settings in which a resumed run differs."""
    try:
        was = dict(json.loads(state["fingerprint"]))
    except (TypeError, ValueError):
        raise CheckpointError(
            f"{folder.path}: the checkpoint does not say what it was made with"
        ) from None
    changes = configuration.told_changes(was, json.loads(fingerprint))
    if changes:
        raise CheckpointError(
            f"{folder.path}: the checkpoint was made with other settings ({changes}); resume "
            f"with the same, or start a new run{_choice(config)}"
        )


def _choice(config: AnyConfig) -> str:
    """How to take another run than the one that was chosen for the user."""
    is_chosen = config.resume == "auto" and not config.run_dir and not configuration.sweep_folder()
    return ". This is the newest unfinished run; resume=FOLDER takes another" if is_chosen else ""


def rank_timeout(cfg: DictConfig) -> float:
    """`rank_timeout_minutes` of this command, or of the run that it goes on with.

    Asked before the ranks have joined: each of them looks by itself. Whatever is wrong with the
    run is told later.
    """
    said = any(item.startswith(f"{TIMEOUT}=") for item in configuration.task_overrides())
    if not said and cfg.resume != "none":
        with contextlib.suppress(ValueError, OSError, KeyError, TypeError, yaml.YAMLError):
            name = configuration.program()
            folder = _folder(cfg, Path(cfg.outputs) / name)
            if folder is not None:
                text = (folder.path / CONFIG).read_text(encoding="utf-8")
                return float(yaml.safe_load(text)[TIMEOUT])
    return cfg[TIMEOUT]
