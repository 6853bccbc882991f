"""Bytes that one process writes and another reads, without a message between them."""

import contextlib
import math
import os
import sys
import tempfile
import weakref
from dataclasses import dataclass
from typing import final

import numpy as np


@final
@dataclass(frozen=True, slots=True)
class Place:
    """A place in the memory of another process.

    Attributes:
        name: Of the file.
        inode: Its number: a name of one that is closed may be that of another.
        offset: Where to begin.
    """

    name: str
    inode: int
    offset: int

    def write(self, pixels: np.ndarray) -> None:
        """Write, if there is still somebody to read.

        Raises:
            MemoryError: If there is no room.
        """
        with contextlib.suppress(FileNotFoundError):
            file = os.open(self.name, os.O_WRONLY)
            try:
                rest, offset = pixels.data.cast("B"), self.offset
                while rest and os.fstat(file).st_ino == self.inode:
                    count = os.pwrite(file, rest, offset)
                    rest, offset = rest[count:], offset + count
            except OSError as error:
                raise MemoryError(error.strerror) from None
            finally:
                os.close(file)


@final
class Memory:
    """A file in memory, into which several processes write.

    A pipe has no end where a process dies in the middle of a message: whoever reads would wait.
    Shared memory by name has the room of `/dev/shm` alone, which is little in a container.

    Args:
        shape: Of the array of bytes.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        if sys.platform == "linux":
            self._file = os.memfd_create("pictures")
            self._name = f"/proc/{os.getpid()}/fd/{self._file}"
        else:
            self._file, self._name = tempfile.mkstemp()
            weakref.finalize(self, os.unlink, self._name)
        weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, math.prod(shape))

    def place(self, row: int) -> Place:
        """Where a process writes rows from this one on."""
        offset = row * math.prod(self._shape[1:])
        return Place(self._name, os.fstat(self._file).st_ino, offset)

    def hold(self, _: object) -> None:
        """Nothing; whoever knows of it keeps the memory."""

    def read(self) -> np.ndarray:
        """A copy of what is there."""
        pixels = np.empty(self._shape, dtype=np.uint8)
        rest = pixels.data.cast("B")
        while rest:
            rest = rest[os.preadv(self._file, [rest], pixels.size - len(rest)) :]
        return pixels
