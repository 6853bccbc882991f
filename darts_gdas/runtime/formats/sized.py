"""Pictures that are not in files of their own: decoded one after the other into memory."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from PIL import Image

from darts_gdas.runtime.formats.splits import SplitSet, checked_labels
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.listing import in_threads
from darts_gdas.runtime.picture_settings import (
    check_channels,
    check_limits,
    check_range,
    check_sizes,
)
from darts_gdas.runtime.pictures import BROKEN, Preparation, is_deep, shown, without_pillows_limit

AT_ONCE = 256
"""Pictures that are held while they are decoded."""

GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
"""What Pillow calls pixels without a colour."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A labelled picture before it is decoded.

    Attributes:
        source: A picture, the bytes of its file, or the file's path.
        label: Its class, whatever the format holds there.
        name: What it is called, for people.
    """

    source: Image.Image | bytes | str
    label: object
    name: str


@dataclass(kw_only=True)
class SizedSet(SplitSet):
    """Pictures that may have any size, and are scaled as those of a folder are.

    Attributes:
        image_size: Height in pixels of what the network sees; null leaves pictures as they are,
            which must then all have one size.
        image_width: Its width; null is the same as the height.
        channels: 3 for colour, 1 for grey; null takes that of the first picture.
        value_range: What becomes black and what white, [LOW, HIGH], in pictures whose values are
            integers of more than 8 bits, or floats.
        max_gigabytes: At most so many 10^9 bytes of pixels are loaded into memory.
        max_megapixels: Refuse a larger picture, which may be an attack on the memory.
    """

    image_size: int | None = None
    image_width: int | None = None
    channels: int | None = None
    value_range: list[float] | None = None
    max_gigabytes: float = 8.0
    max_megapixels: float = 180.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self.image_size, self.image_width)
        if self.image_width is not None and self.image_size is None:
            raise ValueError("dataset.image_width needs dataset.image_size beside it")
        if self.channels is not None:
            check_channels(self.channels)
        check_limits(self.max_gigabytes, self.max_megapixels)
        check_range(self.value_range)

    def decoded(self, samples: Iterable[Sample], classes: tuple[str, ...], what: str) -> ImageSet:
        """A part of the set in memory.

        Args:
            samples: Its pictures, which are looked at once.
            classes: Names of the classes; empty where the format does not say.
            what: Names the part in an error.

        Raises:
            ValueError: If a picture cannot be read, there are several sizes, or too many bytes.
        """
        pixels, labels, names, rule = bytearray(), [], [], None
        remaining = iter(samples)
        with without_pillows_limit():
            while chunk := list(islice(remaining, AT_ONCE)):
                rule = rule or self._rule(chunk[0], what)
                for found in in_threads(lambda one, rule=rule: rule(one), chunk):
                    pixels += found.tobytes()
                labels += [sample.label for sample in chunk]
                names += [shown(sample.name) for sample in chunk]
                if len(pixels) > self.max_gigabytes * 1e9:
                    raise ValueError(
                        f"{what}: the pixels of {len(labels)} pictures and more take more than "
                        f"dataset.max_gigabytes={self.max_gigabytes:g}; use smaller images "
                        "(dataset.image_size), or raise it"
                    )
        numbers = checked_labels(labels, len(labels), f"{what}: labels")
        assert rule is not None  # there is a picture
        prepare = rule.prepare
        images = torch.frombuffer(pixels, dtype=torch.uint8)
        images = images.view(len(labels), prepare.channels, prepare.height, prepare.width)
        return ImageSet(images, numbers, classes, prepare.words(), tuple(names))

    def _rule(self, first: Sample, what: str) -> "_Rule":
        (width, height), mode = _looked_at(first, what)
        if self.value_range is not None and not is_deep(mode):
            raise ValueError(
                f"dataset.value_range has no effect: {first.name} of {what} has 8 bits"
            )
        if self.image_size is not None:
            height, width = self.image_size, self.image_width or self.image_size
        ends = None if self.value_range is None else (self.value_range[0], self.value_range[1])
        channels = self.channels or (1 if mode in GREY else 3)
        prepare = Preparation(height, width, channels, ends, self.max_megapixels)
        return _Rule(prepare, self.image_size is None, self.channels is None, what)


@dataclass(frozen=True, slots=True)
class _Rule:
    """How the pictures of a part become bytes, and what they must be like."""

    prepare: Preparation
    is_of_one_size: bool
    is_like_the_first: bool
    what: str

    def __call__(self, sample: Sample) -> np.ndarray:
        size, mode = _looked_at(sample, self.what)
        first = self.prepare.width, self.prepare.height
        if self.is_of_one_size and size != first:
            raise ValueError(
                f"{self.what}: pictures must have one size, got {first[0]}x{first[1]} and "
                f"{size[0]}x{size[1]} ({sample.name}); pass dataset.image_size=PIXELS, to which "
                "they are scaled"
            )
        if self.is_like_the_first and self.prepare.channels == 1 and mode not in GREY:
            raise ValueError(
                f"{self.what}: the first picture is grey, {sample.name} is not; pass "
                "dataset.channels=3, or 1 for grey"
            )
        source = sample.source
        try:
            if isinstance(source, Image.Image):
                return self.prepare.of(source)
            return self.prepare(_file(source))
        except BROKEN as error:
            raise _broken(sample, self.what, error) from None


def _looked_at(sample: Sample, what: str) -> tuple[tuple[int, int], str]:
    """Size and mode of a picture; of a file the header alone is read."""
    source = sample.source
    if isinstance(source, Image.Image):
        return source.size, source.mode
    try:
        with Image.open(_file(source)) as picture:
            return picture.size, picture.mode
    except BROKEN as error:
        raise _broken(sample, what, error) from None


def _file(source: bytes | str) -> io.BytesIO | str:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _broken(sample: Sample, what: str, error: Exception) -> ValueError:
    return ValueError(f"{what} holds no readable picture in {sample.name} ({error})")
