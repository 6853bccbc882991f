"""Arrays in files that are whole or not there, each with its sum beside it, for one purpose.

Files are written under another name and renamed. The sum is that of a key and the content, so a
file that another purpose left in the same folder does not count.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np


def write_array(path: Path, key: str, array: np.ndarray) -> None:
    """The array first, its sum after it: an array without a sum is not there yet."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    replace(path, buffer.getvalue())
    _write_sum(path, _sum(key, [buffer.getvalue()]))


def seal(path: Path, key: str) -> None:
    """Write the sum of a file beside it."""
    _write_sum(path, _sum(key, _parts(path)))


def is_whole(path: Path, key: str) -> bool:
    """Whether a file is there, and is what was written under this key."""
    return _is_there(path) and _agrees(path, _sum(key, _parts(path)))


def read_array(path: Path, key: str) -> np.ndarray | None:
    """An array; None if it is not there, or not what was written."""
    if not _is_there(path):
        return None
    content = path.read_bytes()
    if not _agrees(path, _sum(key, [content])):
        return None
    return np.load(io.BytesIO(content), allow_pickle=False)


def _sum(key: str, parts: Iterable[bytes]) -> bytes:
    """Of the key and the content."""
    found = hashlib.sha256(key.encode())
    for part in parts:
        found.update(part)
    return found.hexdigest().encode()


def _parts(path: Path) -> Iterator[bytes]:
    """A file that need not fit into memory."""
    with path.open("rb") as file:
        while part := file.read(2**20):
            yield part


def _write_sum(path: Path, found: bytes) -> None:
    replace(path.with_suffix(".sha256"), found + b"\n")


def _is_there(path: Path) -> bool:
    return path.exists() and path.with_suffix(".sha256").exists()


def _agrees(path: Path, found: bytes) -> bool:
    """Whether a sum is the one beside the file; a warning if not."""
    if found == path.with_suffix(".sha256").read_bytes().strip():
        return True
    warnings.warn(f"{path} is damaged and does not count", stacklevel=4)
    return False


def replace(path: Path, content: bytes) -> None:
    """Write a file, which is there with all of its content or as it was."""
    os.replace(_written(path, content), path)


def create(path: Path, content: bytes) -> None:
    """Write a file unless there is one: of several processes that do, the first."""
    new = _written(path, content)
    try:
        os.link(new, path)
    except OSError as error:
        if not isinstance(error, FileExistsError) and not path.exists():  # a disc without links
            os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def _written(path: Path, content: bytes) -> Path:
    new = temporary(path)
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return new


def temporary(path: Path) -> Path:
    """Another name beside it, of this process alone."""
    return path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
