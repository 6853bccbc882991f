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
        files: Theirs, by the same labels.
        rows: Places in the cache.
        recipe: How they are decoded.
        decoders: Who does so.
        to_device: Where batches arrive; None is the CPU.
    """

    labels: Int64[Tensor, " images"]
    classes: tuple[str, ...]
    preparation: tuple[str, ...]
    files: Files
    rows: np.ndarray
    recipe: Recipe
    decoders: Decoders
    to_device: torch.device | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        prepare = self.recipe.prepare
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
        paths, rows = self.files.select(positions).paths, self.rows[positions.numpy()]
        decoding = self.decoders.request(self.recipe, paths, rows.tolist())

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
        at = indices.cpu()
        files = self.files.select(at)
        return replace(self, labels=files.labels, files=files, rows=self.rows[at.numpy()])

    def file_of(self, position: int) -> str:
        """The file's name below the root."""
        return shown(os.fsdecode(self.files.names[position]))

    def digest(self) -> str:
        """A sha256 of names, labels and classes, and of the pixels of `FINGERPRINT` images."""
        hasher = hashlib.sha256(repr((len(self), self.shape, self.classes)).encode())
        # Past the cache, which holds what the files were; here, for they are few.
        recipe = replace(self.recipe, cache=None)
        here = replace(self, recipe=recipe, decoders=Decoders(0), to_device=None)
        looked = here.pixels(some(len(self), FINGERPRINT)).numpy()
        for array in (self.files.names, self.labels.numpy(), looked):
            hasher.update(array.tobytes())
        return hasher.hexdigest()


def some(count: int, most: int) -> Int64[Tensor, " chosen"]:
    """At most so many of `count` positions, always the same, in order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most].sort().values


def file_sets(
    classes: tuple[str, ...],
    parts: tuple[Files, Files],
    prepare: Preparation,
    decoders: Decoders,
    cache: Path | None,
) -> tuple[FileSet, FileSet]:
    """Images for training and for testing, decoded by the same processes.

    Args:
        classes: Names of the classes.
        parts: The files of each.
        prepare: How they are decoded.
        decoders: Who does so.
        cache: Folder to keep decoded pixels in.

    Raises:
        WriteError: If the cache has not enough room.
    """
    train, test = parts
    names = [*train.names.tolist(), *test.names.tolist()] if cache else []
    recipe = Recipe(prepare, PictureCache.of(cache, prepare, names) if cache else None)
    width = f"S{max(train.longest, test.longest)}"  # of both: a digest is of all bytes
    rows = np.arange(len(train) + len(test))

    def part(files: Files, rows: np.ndarray) -> FileSet:
        files = replace(files, names=files.names.astype(width, copy=False))
        return FileSet(files.labels, classes, prepare.words(), files, rows, recipe, decoders)

    return part(train, rows[: len(train)]), part(test, rows[len(train) :])
