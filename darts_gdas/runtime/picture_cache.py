"""Decoded pictures on a disc: after the first pass over a set nothing is decoded again."""

import contextlib
import errno
import hashlib
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darts_gdas.runtime.dataset import DataFault
from darts_gdas.runtime.files import WriteError
from darts_gdas.runtime.pictures import Preparation

SEAL = 4
"""Bytes of the sum behind the pixels of a picture."""


@dataclass(frozen=True, slots=True)
class PictureCache:
    """One file with the bytes of every picture of a set, at its place.

    Behind the pixels stands a sum over them and over the name, size and times of the picture's
    file, the last change of anything (ctime) included, which copies with the file's own time do
    not hide: what was written in part, is damaged, or is of another file, is no picture of this
    cache, and is decoded again. So any number of processes and runs may share it.

    Attributes:
        path: The file.
        num_bytes: Pixels of a picture.
    """

    path: Path
    num_bytes: int

    @classmethod
    def of(cls, folder: Path, prepare: Preparation, names: Sequence[bytes]) -> "PictureCache":
        """The cache of some pictures; its whole room is reserved at once.

        Args:
            folder: Where it lies; made if it is not there.
            prepare: What is done to them.
            names: Their files' names, which tell one set from another.

        Raises:
            WriteError: If the disc has not enough room, or the folder cannot be written.
        """
        key = hashlib.sha256(repr(prepare).encode() + b"\0".join(names)).hexdigest()[:16]
        cache = cls(folder / f"{key}.pixels", prepare.channels * prepare.height * prepare.width)
        total = len(names) * (cache.num_bytes + SEAL)
        is_new = not cache.path.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _opened(cache.path) as file:
                if sys.platform == "linux":
                    os.posix_fallocate(file, 0, total)
        except OSError as error:
            if is_new:  # else a part of the room stays reserved
                with contextlib.suppress(OSError):
                    cache.path.unlink()
            raise WriteError(
                f"dataset.cache={str(folder)!r} cannot hold {len(names)} pictures, "
                f"{total / 1e9:.3g} GB: {error.strerror}"
            ) from None
        return cache

    @contextlib.contextmanager
    def opened(self) -> Iterator["OpenCache"]:
        """For reading and writing.

        Raises:
            DataFault: If it cannot be opened.
        """
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(_opened(self.path))
            except OSError as error:
                raise _fault(self.path, error) from None
            yield OpenCache(self, file)


@dataclass(frozen=True, slots=True)
class OpenCache:
    """A cache's file while it is open.

    Attributes:
        cache: Which.
        file: Its descriptor.
    """

    cache: PictureCache
    file: int

    def read(self, path: str, row: int, out: np.ndarray) -> bool:
        """Fill an array with a picture's pixels; false where the cache does not hold them.

        Raises:
            OSError: If the picture's file is gone.
        """
        record = os.pread(self.file, self.cache.num_bytes + SEAL, self._offset(row))
        pixels = memoryview(record)[: self.cache.num_bytes]
        if record[self.cache.num_bytes :] != _seal(path, pixels):
            return False
        out[...] = np.frombuffer(pixels, dtype=np.uint8).reshape(out.shape)
        return True

    def write(self, path: str, row: int, pixels: np.ndarray) -> None:
        """Keep a picture's pixels.

        Raises:
            DataFault: If the disc is full.
        """
        content = pixels.tobytes()
        record = content + _seal(path, content)
        try:
            if os.pwrite(self.file, record, self._offset(row)) < len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise _fault(self.cache.path, error) from None

    def _offset(self, row: int) -> int:
        return row * (self.cache.num_bytes + SEAL)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield file
    finally:
        os.close(file)


def _fault(path: Path, error: OSError) -> DataFault:
    return DataFault(f"dataset.cache: {str(path)!r} cannot be written: {error.strerror}")


def _seal(path: str, pixels: "bytes | memoryview") -> bytes:
    """A sum that is not that of a place where nothing has been written."""
    found = os.stat(path)
    times = f"{found.st_mtime_ns} {found.st_ctime_ns}"
    about = f"{path} {found.st_size} {times}".encode(errors="surrogateescape")
    return (zlib.crc32(pixels, zlib.crc32(about)) or 1).to_bytes(SEAL, "little")
