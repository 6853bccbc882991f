"""Arrays in files that are whole or not there, each with its sum beside it, for one purpose.

Files are written under another name and renamed. The sum is that of a key and the content, so a
file that another purpose left in the same folder does not count.
"""

import hashlib
import io
import os
import warnings
from pathlib import Path

import numpy as np


def write_array(path: Path, key: str, array: np.ndarray) -> None:
    """The array first, its sum after it: an array without a sum is not there yet."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    replace(path, buffer.getvalue())
    seal(path, key)


def seal(path: Path, key: str) -> None:
    """Write the sum of a file beside it."""
    replace(path.with_suffix(".sha256"), f"{_sum(path, key)}\n".encode())


def _sum(path: Path, key: str) -> str:
    """Of the key and the file."""
    found = hashlib.sha256(key.encode())
    with path.open("rb") as file:
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()


def is_whole(path: Path, key: str) -> bool:
    """Whether a file is there, and is what was written under this key."""
    seal = path.with_suffix(".sha256")
    if not (path.exists() and seal.exists()):
        return False
    if _sum(path, key).encode() == seal.read_bytes().strip():
        return True
    warnings.warn(f"{path} is damaged and does not count", stacklevel=3)
    return False


def read_array(path: Path, key: str) -> np.ndarray | None:
    """An array; None if it is not there, or not what was written."""
    return np.load(path, allow_pickle=False) if is_whole(path, key) else None


def replace(path: Path, content: bytes) -> None:
    """Write a file, which is there with all of its content or as it was."""
    new = temporary(path)
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def temporary(path: Path) -> Path:
    """Another name beside it, of this process alone."""
    return path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
