"""Files that are whole or not there, and the folder of one run."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # what `write_atomically` leaves if it is killed


class WriteError(OSError):
    """A file that could not be written; says which, why, and how much room it needs."""


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], *, num_bytes: int | None = None
) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    The bytes go to a temporary file beside `path`, to the disc, and take the name at once. If
    anything fails the temporary file is removed and the old file stands.

    Args:
        path: The file to create or replace.
        write: Gets the open binary file.
        num_bytes: How many it writes, where that is known.

    Raises:
        WriteError: If the disc is full, or the file cannot be written for another reason.
    """
    write_together({path: (write, num_bytes)})


def write_together(files: Mapping[Path, tuple[Callable[[BinaryIO], object], int | None]]) -> None:
    """Write several files as `write_atomically` writes one: none takes its name before all fit.

    Args:
        files: What writes each, and how many bytes if that is known.

    Raises:
        WriteError: As there, naming the file that failed; all old files stand.
    """
    names = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in files}
    path = next(iter(names))
    try:
        for path in names:
            with open(names[path], "wb") as file:
                files[path][0](file)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in names.items():
            os.replace(temporary, path)
    except BaseException as error:
        for temporary in names.values():
            with contextlib.suppress(OSError):  # the folder itself may be gone
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _write_error(path, error, files[path][1]) from None
        raise
    for parent in dict.fromkeys(path.parent for path in names):
        folder = os.open(parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_error(path: Path, error: OSError, num_bytes: int | None) -> WriteError:
    text = f"{str(path)!r} cannot be written: {error.strerror or error}"
    if num_bytes is not None:
        text += f"; it takes {num_bytes:,} bytes"
        with contextlib.suppress(OSError):
            text += f", the disc has {shutil.disk_usage(path.parent).free:,} left"
    return WriteError(text)


def write_text(path: Path, text: str) -> None:
    """`write_atomically` for a text, UTF-8."""
    content = text.encode()
    write_atomically(path, lambda file: file.write(content), num_bytes=len(content))


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, UTF-8, and hand it to the disc; a part of it does not stay.

    A process that is killed while it writes leaves a part, without the line's end.

    Raises:
        WriteError: As `write_atomically`.
    """
    content = f"{line}\n".encode()
    size = path.stat().st_size if path.exists() else 0
    try:
        with open(path, "ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):  # the folder itself may be gone
            os.truncate(path, size)
        raise _write_error(path, error, len(content)) from None


def traces(path: Path) -> str:
    """A digest of names, sizes and times of a file, or of all below a folder; none is read.

    Links are followed, each folder once. The time is that of the last change of anything (ctime),
    which copying with a file's times, or setting them back, does not hide.
    """
    found, seen = hashlib.sha256(), set()
    for folder, folders, names in (
        [(str(path.parent), [], [path.name])]
        if path.is_file()
        else (os.walk(path, followlinks=True))
    ):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            file = os.path.join(folder, name)
            with contextlib.suppress(OSError):  # a dead link
                stat = os.stat(file)
                about = [os.path.relpath(file, path), stat.st_size, stat.st_ctime_ns]
                found.update(json.dumps(about).encode())
    return found.hexdigest()


def check_writable(path: Path) -> None:
    """Raise a `ValueError` unless a folder is there and can be written, or can be made.

    Leaves nothing behind: a file without a name is made in the folder, or in the one that its
    folders would be made in.
    """
    parent = path
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"run_dir {str(path)!r} cannot be made or written ({str(parent)!r}: {reason}); pass "
            "run_dir=PATH or outputs=PATH to write elsewhere"
        ) from None


def new_folder(wished: Path) -> Path:
    """Make a folder that nobody else has made, of the wished name or with a number behind it.

    Raises:
        ValueError: If it cannot be made.
    """
    path, number = wished, 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:  # another run of the same second
            number += 1
            path = wished.with_name(f"{wished.name}_{number}")
        except OSError as error:
            raise ValueError(f"run folder {str(path)!r} cannot be made: {error}") from None


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
        return cls(new_folder(root / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")))

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
        """Whether a living process holds the lock; asked by several at once, all are right."""
        with open(self.path / "lock", "a") as file:
            return not _try_lock(file.fileno(), fcntl.LOCK_SH)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out; the system releases it however the process ends.

        Raises:
            ValueError: If another process holds it.
        """
        with open(self.path / "lock", "a+b") as file:
            if not _try_lock(file.fileno()):
                file.seek(0)
                owner = file.read(200).decode(errors="replace").strip()
                raise ValueError(
                    f"run_dir {str(self.path)!r} is in use by another process"
                    + (f" ({owner})" if owner else "")
                )
            started = datetime.now().isoformat(sep=" ", timespec="seconds")
            owner = f"{os.getpid()} on {socket.gethostname()} since {started}\n"
            with contextlib.suppress(OSError):  # a full disc does not loosen the lock
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), owner.encode())
            yield

    def check_free(self) -> None:
        """Raise a `ValueError` if another process holds the lock now."""
        if (self.path / "lock").is_file():
            with self.lock():
                pass

    def remove_temporaries(self) -> None:
        """Remove what processes that were killed while writing have left; needs the lock."""
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(".*.tmp"):
                if _TEMPORARY.fullmatch(path.name):
                    path.unlink(missing_ok=True)

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


def _try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
