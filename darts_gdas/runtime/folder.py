"""A data set of pictures that are sorted into folders by their class."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import final

import numpy as np
import torch

from darts_gdas.runtime.dataset import Dataset, Pair
from darts_gdas.runtime.decoders import Decoders, default_workers
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.listing import PassedOver, Picture, Spread, in_threads, with_headers
from darts_gdas.runtime.picture_files import Files, find_parts, look_at_sizes
from darts_gdas.runtime.picture_settings import (
    check_channels,
    check_limits,
    check_range,
    check_sizes,
)
from darts_gdas.runtime.pictures import BROKEN, Preparation, extremes, shown, without_pillows_limit
from darts_gdas.runtime.split import check_fraction, check_share, class_share
from darts_gdas.runtime.stream import SAMPLE, file_sets, some

logger = logging.getLogger(__name__)

MOST_WORKERS = 256

LOOKED = 64
"""Files of each part of a stream whose headers are looked at before the run."""


class Storage(Enum):
    """`memory` decodes all images before the run, `stream` each batch when it is needed.

    `auto` takes the memory for a set that fits into `max_gigabytes`, and streams a larger one.
    """

    auto = "auto"
    memory = "memory"
    stream = "stream"


@final
@dataclass(kw_only=True)
class ImageFolder(Dataset):
    """Any pictures, sorted into `ROOT/train/<class>/` and `ROOT/test/<class>/`.

    Pictures may lie deeper below their class; names that begin with a dot are passed over. Each
    is scaled (bicubic, antialiased) until it covers the size and its centre is cut out. The
    orientation that a camera notes in EXIF is not applied, and transparency is dropped.

    Attributes:
        root: The folder. In place of `test` it may hold `testing`, `eval`, `evaluation`, `val`,
            `valid`, `validation` or `dev`.
        image_size: Height in pixels of what the network sees.
        image_width: Its width; null is the same as the height.
        channels: 3 for colour, 1 for grey.
        value_range: What becomes black and what white, [LOW, HIGH], in pictures whose values are
            integers of more than 8 bits, or floats; null takes the smallest and the largest value
            of the training pictures, for integers.
        test_fraction: Share of each class of `train` that is kept for testing where there is no
            folder for it; null is a fifth.
        fraction: Share of each class that is trained on, at least one image of each.
        seed: Which pictures those are; independent of the seed of the run.
        skip_corrupt: Leave out pictures that cannot be read, with one warning, instead of failing.
            A stream, which does not look at them beforehand, refuses it.
        storage: Where the pixels are. The batches are the same, only the statistics of a stream
            of more than 512 images are those of a sample.
        max_gigabytes: At most so many 10^9 bytes of pixels are loaded into memory.
        workers: Processes of each rank that decode a stream's pictures; null is one per core, 0
            decodes in the process itself. The batches are the same for any number.
        cache: Folder that keeps a stream's decoded pixels, for later epochs and runs.
        max_megapixels: Refuse files with a larger picture, which may be an attack on the memory.
    """

    root: str = ""
    image_size: int = 32
    image_width: int | None = None
    channels: int = 3
    value_range: list[float] | None = None
    test_fraction: float | None = None
    fraction: float = 1.0
    seed: int = 0
    skip_corrupt: bool = False
    storage: Storage = Storage.auto
    max_gigabytes: float = 8.0
    workers: int | None = None
    cache: str | None = None
    max_megapixels: float = 180.0

    def __post_init__(self) -> None:
        check_sizes(self.image_size, self.image_width)
        check_channels(self.channels)
        check_limits(self.max_gigabytes, self.max_megapixels)
        if self.test_fraction is not None:
            check_fraction(self.test_fraction, "dataset.test_fraction")
        check_share(self.fraction, "dataset.fraction")
        if self.workers is not None and not 0 <= self.workers <= MOST_WORKERS:
            raise ValueError(
                f"dataset.workers must lie in 0..{MOST_WORKERS}, or be null, got {self.workers}"
            )
        if self.storage is Storage.memory and (self.workers is not None or self.cache is not None):
            raise ValueError(
                "dataset.workers and dataset.cache are of a stream and have no effect with "
                "dataset.storage=memory; leave them out"
            )
        check_range(self.value_range)

    def load(self) -> Pair:
        """Look at all names first; then as for any files.

        What is sure to be a stream has its processes list the names, too.
        """
        root, passed = self._root(), PassedOver()
        decoders = self._decoders()
        readers = decoders if self.storage is Storage.stream else Decoders(0)
        with decoders.ended_by_errors(), without_pillows_limit():
            found = find_parts(root, self.test_fraction, self.seed, passed, readers.map)
        if told := passed.words():
            logger.warning("%s", told)
        return self.pair(*found, decoders)

    def pair(
        self,
        classes: tuple[str, ...],
        train: Files,
        test: Files,
        decoders: Decoders | None = None,
    ) -> Pair:
        """Look at headers first, then decode, a stream some pictures alone.

        Args:
            classes: Names of the classes.
            train: Files to train on, of which `fraction` takes a share.
            test: Files to test on.
            decoders: Who reads a stream's files; None is `workers` new processes.
        """
        parts = self._share(train), test
        decoders = decoders or self._decoders()
        with decoders.ended_by_errors(), without_pillows_limit():
            is_stream = self._is_stream(sum(map(len, parts)))
            spread = decoders.map if is_stream else in_threads
            looked = self._looked(parts, LOOKED if is_stream else None, spread)
            if is_stream and _deep(looked[0] + looked[1]):
                # Their values have a range to be measured.
                looked = self._looked(parts, SAMPLE, spread)
            is_all = sum(map(len, looked)) == sum(map(len, parts))
            prepare = self._preparation(*looked, is_all=is_all)
            look_at_sizes(looked[0] + looked[1], prepare, self.max_megapixels)
            if not is_stream:
                first, second = (self._decode_all(part, classes, prepare) for part in parts)
                return first, second
            prepare = replace(prepare, max_megapixels=self.max_megapixels)
            cache = self.cache and Path(self.cache).expanduser()
            return file_sets(classes, parts, prepare, decoders, cache or None)

    def _decoders(self) -> Decoders:
        return Decoders(default_workers() if self.workers is None else self.workers)

    def _share(self, train: Files) -> Files:
        if self.fraction == 1:
            return train
        return train.select(class_share(train.labels, self.fraction, self.seed))

    def _looked(
        self, parts: Sequence[Files], most: int | None, spread: Spread
    ) -> list[list[Picture]]:
        """The headers of at most so many files of each part, or of all."""
        chosen = parts if most is None else [p.select(some(len(p), most)) for p in parts]
        return [with_headers(part.paths, spread) for part in chosen]

    def _root(self) -> Path:
        if not self.root:
            raise ValueError(
                "dataset.root must name a folder that holds train/<class>/ and test/<class>/; "
                "pass dataset.root=PATH"
            )
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise ValueError(f"dataset.root must be a folder, but there is none at {self.root!r}")
        return root

    def _is_stream(self, num_images: int) -> bool:
        """Where the pixels are to be, which is told.

        Raises:
            ValueError: If they do not fit there, or not with other settings.
        """
        width = self.image_width or self.image_size
        gigabytes = num_images * self.channels * self.image_size * width / 1e9
        fits = gigabytes <= self.max_gigabytes
        is_stream = self.storage is Storage.stream or (self.storage is Storage.auto and not fits)
        told = (
            f"the {num_images} images of dataset.root take {gigabytes:.3g} GB at "
            f"dataset.image_size={self.image_size}, {'not ' if fits else ''}more than "
            f"dataset.max_gigabytes={self.max_gigabytes:g}"
        )
        if not fits and not is_stream:
            raise ValueError(
                f"{told}; use smaller images, raise dataset.max_gigabytes, or pass "
                "dataset.storage=stream"
            )
        if is_stream and self.skip_corrupt:
            raise ValueError(
                "dataset.skip_corrupt=true needs all pictures decoded before the run, which a "
                "stream does not do; leave it out, and remove what a run names"
                + (f". It streams because {told}" if self.storage is Storage.auto else "")
            )
        if self.storage is Storage.auto:
            level = logging.WARNING if is_stream else logging.INFO
            chosen = Storage.stream if is_stream else Storage.memory
            logger.log(level, "dataset.storage=auto takes %s: %s", chosen.name, told)
        return is_stream

    def _preparation(
        self, train: Sequence[Picture], test: Sequence[Picture], *, is_all: bool
    ) -> Preparation:
        """What is done to every picture; measures the range of values that is not declared."""
        prepare = Preparation(self.image_size, self.image_width or self.image_size, self.channels)
        deep = _deep([*train, *test])
        if self.value_range is not None:
            if not deep and is_all:
                raise ValueError(
                    "dataset.value_range has no effect: no picture has more than 8 bits; leave it "
                    "out"
                )
            return replace(prepare, value_range=(self.value_range[0], self.value_range[1]))
        integers = {p.path for p in deep if p.header and not p.header.mode.startswith("F")}
        measured = [p.path for p in train if p.path in integers] or sorted(integers)
        ends = [found for found in in_threads(extremes, measured) if found is not None]
        if not ends:
            return prepare
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        logger.warning(
            "dataset.root: %d pictures hold integers of more than 8 bits; %g becomes black and %g "
            "white, the smallest and the largest value for training (or dataset.value_range="
            "[BLACK,WHITE])",
            len(integers),
            low,
            high,
        )
        return replace(prepare, value_range=(low, max(high, low + 1)))

    def _decode_all(self, files: Files, classes: tuple[str, ...], prepare: Preparation) -> ImageSet:
        """One part of the set; in the order of the names, however the threads run."""
        shape = (len(files), prepare.channels, prepare.height, prepare.width)
        pixels, paths = np.empty(shape, dtype=np.uint8), files.paths

        def read(position: int) -> bool:
            path = paths[position]
            try:
                pixels[position] = prepare(path)
            except BROKEN as error:
                if self.skip_corrupt:
                    return False
                raise ValueError(
                    f"dataset.root holds a file that is no readable image, {path!r} "
                    f"({error}); remove it or pass dataset.skip_corrupt=true"
                ) from None
            return True

        is_read, labels = torch.tensor(in_threads(read, range(len(files)))), files.labels
        root = self._root()
        names = tuple(shown(os.path.relpath(path, root)) for path in paths)
        everything = ImageSet(torch.from_numpy(pixels), labels, classes, prepare.words(), names)
        if is_read.all():
            return everything
        _report_skipped(files.select((~is_read).nonzero().flatten()).paths, len(files))
        remaining = everything.select(is_read.nonzero().flatten())
        for label in labels.unique().tolist():
            if not (remaining.labels == label).any():
                members = files.select((labels == label).nonzero().flatten()).paths
                raise ValueError(
                    f"none of the {len(members)} images of class {classes[label]!r} can be read, "
                    f"for example {members[0]!r}"
                )
        return remaining


def _deep(pictures: Iterable[Picture]) -> list[Picture]:
    return [picture for picture in pictures if picture.header and picture.header.is_deep]


def _report_skipped(paths: list[str], num_images: int) -> None:
    some_paths = ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
    logger.warning(
        "skipped %d of %d images that cannot be read: %s", len(paths), num_images, some_paths
    )
