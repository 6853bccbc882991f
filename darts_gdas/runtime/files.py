"""Files that are whole or not there, and the folder of one run."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    The bytes go to a temporary file beside `path`, to the disc, and take the name at once. If
    anything fails the temporary file is removed and the old file stands.

    Args:
        path: The file to create or replace.
        write: Gets the open binary file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """`write_atomically` for a text, UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))


@dataclass(frozen=True, slots=True)
class RunFolder:
    """What one run leaves behind; a run is finished when it has its `result.json`."""

    path: Path

    @classmethod
    def new(cls, root: Path) -> "RunFolder":
        """Make a folder named by the time of day below `root`, never one that is there already.

        Raises:
            ValueError: If it cannot be made.
        """
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        path, number = root / stamp, 1
        while True:
            try:
                path.mkdir(parents=True)
                return cls(path)
            except FileExistsError:  # another run of the same second
                number += 1
                path = root / f"{stamp}_{number}"
            except OSError as error:
                raise ValueError(f"run folder {str(path)!r} cannot be made: {error}") from None

    @classmethod
    def newest(cls, root: Path, *, finished: bool) -> "RunFolder | None":
        """The run below `root` that finished last, or that was left unfinished last."""
        pattern = "result.json" if finished else "checkpoints"
        marks = [mark for mark in root.glob(f"**/{pattern}") if mark.parent != root]
        if not finished:
            folders = {mark: cls(mark.parent) for mark in marks}
            marks = [m for m, f in folders.items() if not f.result.exists() and not f.in_use]
        marks.sort(key=lambda mark: (mark.stat().st_mtime_ns, str(mark)))
        return cls(marks[-1].parent) if marks else None

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def result(self) -> Path:
        """The closing figures; there only when the run has finished."""
        return self.path / "result.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per epoch and line."""
        return self.path / "metrics.jsonl"

    @property
    def in_use(self) -> bool:
        """Whether a living process holds the lock."""
        try:
            with self.lock():
                return False
        except ValueError:
            return True

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out; the system releases it however the process ends.

        Raises:
            ValueError: If another process holds it.
        """
        with open(self.path / "lock", "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(
                    f"run_dir {str(self.path)!r} is in use by another process"
                ) from None
            yield

    def create(self) -> None:
        """Make the folder and its subfolders.

        Raises:
            ValueError: If a file is in the way or the place cannot be written.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self.tensorboard.mkdir(exist_ok=True)
        except OSError as error:
            raise ValueError(f"run_dir {str(self.path)!r} cannot be made: {error}") from None

    def write_json(self, name: str, data: dict[str, Any]) -> None:
        """Write a JSON file of the run, atomically."""
        write_text(self.path / name, json.dumps(data, indent=2, allow_nan=False) + "\n")
