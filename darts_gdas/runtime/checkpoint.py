"""Checkpoints: plain containers of tensors, written atomically, verified by sha256."""

import hashlib
import io
import logging
import time
from pathlib import Path
from typing import Any

import torch

from darts_gdas.runtime.files import write_atomically, write_text

logger = logging.getLogger(__name__)

State = dict[str, Any]

BACK = "gone_back_to"
"""File that names the checkpoint at which the present course of a run began, if it went back."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, foreign or malicious."""


def save(path: Path, state: State) -> None:
    """Write `state` to `path`, and its sha256 (in `sha256sum` format) beside it.

    Args:
        path: The file, `NAME.pt`.
        state: Tensors, numbers, strings and containers of them; nothing that needs code to load.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with buffer.getbuffer() as content:  # closed also where it cannot be written
        write_atomically(path, lambda file: file.write(content), num_bytes=len(content))
        digest = hashlib.sha256(content).hexdigest()
    write_text(_digest_path(path), f"{digest}  {path.name}\n")


def load(path: Path) -> State:
    """Read what `save` wrote, onto the CPU, running no code from the file.

    Raises:
        CheckpointError: If the file is missing, cut, altered (where its sha256 stands beside
            it), or holds anything but plain data.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be read: {error}") from None
    digest = _digest_path(path)
    expected = hashlib.sha256(content).hexdigest().encode()
    if digest.is_file() and digest.read_bytes().split()[:1] != [expected]:
        raise CheckpointError(f"checkpoint {str(path)!r} is damaged: its sha256 does not match")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch raise almost anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be loaded: {reason}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {str(path)!r} holds no state of a run")
    return state


def remove(path: Path) -> None:
    """Remove what `save` wrote, if it is there."""
    path.unlink(missing_ok=True)
    _digest_path(path).unlink(missing_ok=True)


class CheckpointFolder:
    """The checkpoints of one run: the newest few, and the best.

    Args:
        folder: Where they are; created by the run folder.
        keep: How many of the newest stay.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, step: int, state: State, *, is_best: bool) -> Path:
        """Add the state after `step` training steps; drop what is no longer kept.

        Checkpoints of later steps go too: they belong to a course that the run has left by going
        on from an earlier one.
        """
        path, begin = self._path(step), time.monotonic()
        save(path, state)
        logger.info(
            "saved %s, %.1f MiB in %.2f s",
            path.name,
            path.stat().st_size / 2**20,
            time.monotonic() - begin,
        )
        if is_best:
            self.mark_best(step)
        paths = self._paths()
        past = [other for other in paths if other.name <= path.name]
        keep = {*past[-self.keep :]} | ({self.best()} & {*past})
        for old in paths:
            if old not in keep:
                remove(old)
        return path

    def mark_best(self, step: int) -> None:
        """Note that the best evaluation so far is that of the state after `step` steps."""
        write_text(self.folder / "best", self._path(step).name + "\n")

    def best(self) -> Path | None:
        """The checkpoint with the best evaluation so far.

        The note is compared with the names that are there: it cannot lead elsewhere.
        """
        pointer = self.folder / "best"
        name = pointer.read_text(errors="replace").strip() if pointer.is_file() else ""
        return next((path for path in self._paths() if path.name == name), None)

    def newest(self) -> tuple[Path, State] | None:
        """The newest checkpoint that loads; None where there is none at all.

        A damaged one is passed over with a warning.

        Raises:
            CheckpointError: If there are checkpoints and none of them loads.
        """
        errors = []
        for path in self._paths()[::-1]:
            try:
                self._check_place(path)
                state = load(path)
            except CheckpointError as error:
                errors.append(str(error))
                continue
            for message in errors:
                logger.warning("%s; going on from %s", message, path.name)
            return path, state
        if errors:
            raise CheckpointError(f"no checkpoint in {str(self.folder)!r} loads: {errors[0]}")
        return None

    def has_gone_back_to(self, name: str) -> bool:
        """Whether the present course is the one that began at this checkpoint."""
        note = self.folder / BACK
        return note.is_file() and note.read_text(errors="replace").strip() == name

    def at(self, name: str) -> State:
        """The state to go on from where a checkpoint is named.

        Named again, by a scheduler that starts the same command once more say, it stands for the
        newest of the course that began there.

        Raises:
            CheckpointError: If it does not load.
        """
        if self.has_gone_back_to(name):
            found = self.newest()
            if found is not None:
                if found[0].name > name:
                    logger.warning(
                        "this run has gone back to %s before, and goes on from %s; to go back "
                        "once more, remove %s",
                        name,
                        found[0].name,
                        self.folder / BACK,
                    )
                return found[1]
        return load(self.folder / name)

    def go_back_to(self, name: str) -> None:
        """Begin a new course at a checkpoint: later ones are put aside, not deleted."""
        if self.has_gone_back_to(name):
            return
        later = [path for path in self._paths() if path.name > name]
        aside = self.folder / "left"
        for path in later:
            aside.mkdir(exist_ok=True)
            for file in (path, _digest_path(path)):
                if file.exists():
                    file.replace(aside / file.name)
        write_text(self.folder / BACK, name + "\n")
        if later:
            logger.warning(
                "going back to %s: %s of later steps put aside in %s",
                name,
                ", ".join(path.name for path in later),
                aside,
            )

    def _check_place(self, path: Path) -> None:
        """Raise a `CheckpointError` for a link that leads out of the folder."""
        place = path.resolve()
        if not place.is_relative_to(self.folder.resolve()):
            raise CheckpointError(
                f"checkpoint {str(path)!r} is a link to {str(place)!r}, out of the run folder"
            )

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.pt"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
