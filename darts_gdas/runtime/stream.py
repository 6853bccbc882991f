"""Images that stay in their files, of which a few batches at a time are decoded."""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from darts_gdas.runtime.decoders import Decoders, Recipe
from darts_gdas.runtime.images import Images, ImageSet, Read
from darts_gdas.runtime.picture_cache import PictureCache
from darts_gdas.runtime.picture_files import Files
from darts_gdas.runtime.pictures import Preparation, shown

AHEAD = 2
"""Batches that are read before they are needed; each takes its bytes of memory, a quarter of the
floats that the network is given."""

SAMPLE, FINGERPRINT = 512, 64
"""Images of a larger set that statistics and looks are taken of, and that its digest reads."""


@final
@dataclass(frozen=True, eq=False)
class FileSet(Images):
    """Images in files, of which the batches alone are decoded, for however large a set.

    Statistics, looks and the digest are taken of samples: `SAMPLE` images, all of a smaller set.

    Attributes:
        labels: As for all `Images`, on the CPU.
        classes: As there.
        preparation: As there.
        root: Folder that the names are in.
        names: Names of the files below it, as bytes of one length: a list of a million texts would
            be copied into every process, by the counts of its references.
        rows: Places in the cache.
        decoders: Who decodes.
        to_device: Where batches arrive; None is the CPU.
    """

    labels: Int64[Tensor, " images"]
    classes: tuple[str, ...]
    preparation: tuple[str, ...]
    root: str
    names: np.ndarray
    rows: np.ndarray
    decoders: Decoders
    to_device: torch.device | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        prepare = self.decoders.recipe.prepare
        return prepare.channels, prepare.height, prepare.width

    @property
    def device(self) -> torch.device:
        """Where batches arrive."""
        return self.to_device or torch.device("cpu")

    @property
    def ahead(self) -> int:
        """As many as there are processes for."""
        return AHEAD if self.decoders.workers else 0

    @property
    def sample(self) -> ImageSet:
        """Some images in memory, in order; all of a small set."""
        return self._sample

    @cached_property
    def _sample(self) -> ImageSet:
        chosen = some(len(self), SAMPLE)
        parts = [replace(self, to_device=None).request(p) for p in chosen.split(64)]
        pixels, labels = zip(*(part() for part in parts), strict=True)
        return ImageSet(torch.cat(pixels), torch.cat(labels), self.classes, self.preparation)

    def request(self, positions: Int64[Tensor, " batch"]) -> Read:
        """Have the images at these positions decoded; pinned on their way to a GPU.

        Raises:
            DataFault: Here or in what is returned, if they cannot be read.
        """
        chosen = positions.numpy()
        paths = [os.path.join(self.root, os.fsdecode(name)) for name in self.names[chosen]]
        decoding = self.decoders.request(paths, self.rows[chosen].tolist())

        def read() -> tuple[Tensor, Tensor]:
            pixels, labels = torch.from_numpy(decoding.wait()), self.labels[positions]
            if self.device.type == "cuda":
                pixels, labels = pixels.pin_memory(), labels.pin_memory()
            return (
                pixels.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )

        return read

    def to(self, device: torch.device | str) -> "FileSet":
        """The same images, whose batches arrive on another device."""
        return replace(self, to_device=torch.device(device))

    def select(self, indices: Int64[Tensor, " selected"]) -> "FileSet":
        """The images at these positions, in this order."""
        at = indices.cpu().numpy()
        labels = self.labels[indices.cpu()]
        return replace(self, labels=labels, names=self.names[at], rows=self.rows[at])

    def file_of(self, position: int) -> str:
        """The file's name below the root."""
        return shown(os.fsdecode(self.names[position]))

    def digest(self) -> str:
        """A sha256 of names, labels and classes, and of the pixels of `FINGERPRINT` images."""
        hasher = hashlib.sha256(repr((len(self), self.shape, self.classes)).encode())
        prepare = self.decoders.recipe.prepare
        # Past the cache, which holds what the files were; here, for they are few.
        files = replace(self, decoders=Decoders(Recipe(prepare, None), 0), to_device=None)
        looked = files.pixels(some(len(self), FINGERPRINT)).numpy()
        for array in (self.names, self.labels.numpy(), looked):
            hasher.update(array.tobytes())
        return hasher.hexdigest()


def some(count: int, most: int) -> Int64[Tensor, " chosen"]:
    """At most so many of `count` positions, always the same, in order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most].sort().values


def file_sets(
    root: Path,
    classes: tuple[str, ...],
    parts: tuple[Files, Files],
    prepare: Preparation,
    *,
    workers: int,
    cache: Path | None,
) -> tuple[FileSet, FileSet]:
    """Images for training and for testing, decoded by the same processes.

    Args:
        root: Folder that all files are below.
        classes: Names of the classes.
        parts: The files of each.
        prepare: How they are decoded.
        workers: How many processes decode.
        cache: Folder to keep decoded pixels in.

    Raises:
        WriteError: If the cache has not enough room.
    """
    # All names at once: a call for each takes longer than to list them.
    joined = os.fsencode("\0".join(["", *parts[0].paths, *parts[1].paths]))
    start = b"\0" + os.fsencode(os.path.join(root, ""))
    names = joined.replace(start, b"\0").split(b"\0")[1:]
    kept = PictureCache.of(cache, prepare, names) if cache else None
    array, rows = np.array(names), np.arange(len(names))
    decoders = Decoders(Recipe(prepare, kept), workers)

    def part(files: Files, place: slice) -> FileSet:
        words, below = prepare.words(), str(root)
        return FileSet(files.labels, classes, words, below, array[place], rows[place], decoders)

    first, second = parts
    return part(first, slice(len(first))), part(second, slice(len(first), None))
