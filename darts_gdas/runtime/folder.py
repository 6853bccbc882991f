"""A data set of pictures that are sorted into folders by their class."""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import torch

from darts_gdas.runtime.dataset import Dataset, Pair
from darts_gdas.runtime.images import ImageSet, check_fraction
from darts_gdas.runtime.picture_files import PassedOver, Picture, find_parts, in_threads
from darts_gdas.runtime.pictures import BROKEN, Preparation, extremes, without_pillows_limit

logger = logging.getLogger(__name__)

LARGE, NOTABLE_LOSS = 89, 0.1
"""Megapixels, and the share of the area that is cut off, from which on it is worth a line."""


@final
@dataclass(kw_only=True)
class ImageFolder(Dataset):
    """Any pictures, sorted into `ROOT/train/<class>/` and `ROOT/test/<class>/`.

    Pictures may lie deeper below their class; names that begin with a dot are passed over. Each
    is scaled (bicubic, antialiased) until it covers the size and its centre is cut out. The
    orientation that a camera notes in EXIF is not applied, and transparency is dropped.

    Attributes:
        root: The folder. In place of `test` it may hold `val`, `valid` or `validation`.
        image_size: Height in pixels of what the network sees.
        image_width: Its width; null is the same as the height.
        channels: 3 for colour, 1 for grey.
        value_range: What becomes black and what white, [LOW, HIGH], in pictures whose values are
            integers of more than 8 bits, or floats; null takes the smallest and the largest value
            of the training pictures, for integers.
        test_fraction: Share of each class of `train` that is kept for testing where there is no
            folder for it; null is a fifth.
        seed: Which pictures those are; independent of the seed of the run.
        skip_corrupt: Leave out pictures that cannot be read, with one warning, instead of failing.
        max_gigabytes: Refuse to load more than this many 10^9 bytes of pixels into memory.
        max_megapixels: Refuse files with a larger picture, which may be an attack on the memory.
    """

    root: str = ""
    image_size: int = 32
    image_width: int | None = None
    channels: int = 3
    value_range: list[float] | None = None
    test_fraction: float | None = None
    seed: int = 0
    skip_corrupt: bool = False
    max_gigabytes: float = 8.0
    max_megapixels: float = 180.0

    def __post_init__(self) -> None:
        for name in ("image_size", "image_width"):
            pixels = getattr(self, name)
            if pixels is not None and pixels < 1:
                raise ValueError(f"dataset.{name} must be at least 1 pixel, got {pixels}")
        if self.channels not in (1, 3):
            raise ValueError(
                f"dataset.channels must be 3 (colour) or 1 (grey), got {self.channels}"
            )
        for name in ("max_gigabytes", "max_megapixels"):
            if not getattr(self, name) > 0:
                raise ValueError(f"dataset.{name} must be positive, got {getattr(self, name)}")
        if self.test_fraction is not None:
            check_fraction(self.test_fraction, "dataset.test_fraction")
        values = self.value_range
        if values is not None and not (
            len(values) == 2 and all(map(math.isfinite, values)) and values[0] < values[1]
        ):
            raise ValueError(
                f"dataset.value_range must be two numbers, [BLACK,WHITE], the first less than the "
                f"second, got {list(values)}"
            )

    def load(self) -> Pair:
        """Look at all names first, then at all headers, then decode all pictures."""
        root = self._root()
        with without_pillows_limit():
            passed = PassedOver()
            classes, train, test = find_parts(root, self.test_fraction, self.seed, passed)
            if told := passed.words():
                logger.warning("%s", told)
            self._check_memory(len(train) + len(test))
            prepare = self._preparation(train, test)
            self._look_at_sizes([*train, *test], prepare)
            parts = [self._decode_all(part, classes, prepare) for part in (train, test)]
        return parts[0], parts[1]

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

    def _check_memory(self, num_images: int) -> None:
        width = self.image_width or self.image_size
        gigabytes = num_images * self.channels * self.image_size * width / 1e9
        if gigabytes > self.max_gigabytes:
            raise ValueError(
                f"the {num_images} images of dataset.root take {gigabytes:.3g} GB at "
                f"dataset.image_size={self.image_size}, more than dataset.max_gigabytes="
                f"{self.max_gigabytes:g}; use smaller images or raise dataset.max_gigabytes"
            )

    def _preparation(self, train: Sequence[Picture], test: Sequence[Picture]) -> Preparation:
        """What is done to every picture; measures the range of values that is not declared."""
        prepare = Preparation(self.image_size, self.image_width or self.image_size, self.channels)
        deep = [p for part in (train, test) for p in part if p.header and p.header.is_deep]
        if self.value_range is not None:
            if not deep:
                raise ValueError(
                    "dataset.value_range has no effect: no picture has more than 8 bits; leave it "
                    "out"
                )
            return replace(prepare, value_range=(self.value_range[0], self.value_range[1]))
        integers = {p.path for p in deep if p.header and not p.header.mode.startswith("F")}
        measured = [p.path for p in train if p.path in integers] or list(integers)
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

    def _look_at_sizes(self, pictures: Iterable[Picture], prepare: Preparation) -> None:
        """Refuse what is too large; say what is large, cut off, or one of several in a file."""
        known = [(p.path, p.header) for p in pictures if p.header is not None]
        if not known:
            return
        path, largest = max(known, key=lambda pair: pair[1].megapixels)
        size = f"{str(path)!r} ({largest.size[0]}x{largest.size[1]} pixels)"
        if largest.megapixels > self.max_megapixels:
            raise ValueError(
                f"dataset.root holds a picture of {largest.megapixels:.0f} megapixels, {size}; "
                "remove it, or allow it with dataset.max_megapixels="
                f"{math.ceil(largest.megapixels)}"
            )
        if largest.megapixels > LARGE:
            logger.warning(
                "dataset.root holds a large picture, %s, which takes about %.1f GB while it is "
                "read; dataset.max_megapixels refuses such files",
                size,
                3 * largest.megapixels / 1e3,
            )
        lost = [prepare.lost(head.size) for _, head in known]
        if sum(lost) / len(lost) > NOTABLE_LOSS:
            most = max(range(len(lost)), key=lost.__getitem__)
            logger.warning(
                "the cut to %dx%d pixels leaves out %.0f %% of the pictures' area on average, "
                "%.0f %% of %r (dataset.image_size, dataset.image_width)",
                prepare.width,
                prepare.height,
                100 * sum(lost) / len(lost),
                100 * lost[most],
                str(known[most][0]),
            )
        series = [path for path, head in known if head.is_series]
        if series:
            logger.warning(
                "%d files hold several pictures, of which the first is read, such as %r",
                len(series),
                str(series[0]),
            )

    def _decode_all(
        self, pictures: Sequence[Picture], classes: tuple[str, ...], prepare: Preparation
    ) -> ImageSet:
        """One part of the set; in the order of the names, however the threads run."""
        shape = (len(pictures), prepare.channels, prepare.height, prepare.width)
        pixels = np.empty(shape, dtype=np.uint8)

        def read(position: int) -> bool:
            path = pictures[position].path
            try:
                pixels[position] = prepare(path)
            except BROKEN as error:
                if self.skip_corrupt:
                    return False
                raise ValueError(
                    f"dataset.root holds a file that is no readable image, {str(path)!r} "
                    f"({error}); remove it or pass dataset.skip_corrupt=true"
                ) from None
            return True

        is_read = torch.tensor(in_threads(read, range(len(pictures))))
        labels = torch.tensor([picture.label for picture in pictures])
        root = self._root()
        names = tuple(_shown(picture.path.relative_to(root)) for picture in pictures)
        everything = ImageSet(torch.from_numpy(pixels), labels, classes, prepare.words(), names)
        if is_read.all():
            return everything
        _report_skipped(
            [p.path for p, good in zip(pictures, is_read, strict=True) if not good], len(pictures)
        )
        remaining = everything.select(is_read.nonzero().flatten())
        for label in labels.unique().tolist():
            if not (remaining.labels == label).any():
                members = [p.path for p in pictures if p.label == label]
                raise ValueError(
                    f"none of the {len(members)} images of class {classes[label]!r} can be read, "
                    f"for example {str(members[0])!r}"
                )
        return remaining


def _shown(path: Path) -> str:
    """A path as text that can be written down, whatever bytes it consists of."""
    return str(path).encode(errors="replace").decode()


def _report_skipped(paths: list[Path], num_images: int) -> None:
    shown = ", ".join(str(path) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    logger.warning("skipped %d of %d images that cannot be read: %s", len(paths), num_images, shown)
