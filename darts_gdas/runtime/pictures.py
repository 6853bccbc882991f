"""A picture in a file: what its header says, and its pixels as bytes of one size."""

import contextlib
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps

BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What Pillow raises for a file that is not the picture its name promises."""

NAMED_ONLY = frozenset(("EPS", "MPEG", "WMF"))
"""Formats that Pillow can name, but not read by itself."""


def is_deep(mode: str) -> bool:
    """Whether pixels of a mode of Pillow are integers of more than 8 bits, or floats."""
    return mode.startswith(("I", "F"))


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its picture before it is decoded.

    Attributes:
        size: (width, height) in pixels.
        mode: Pillow's word for what a pixel is.
        is_series: Whether there are several pictures, of which the first is read.
    """

    size: tuple[int, int]
    mode: str
    is_series: bool

    @property
    def is_deep(self) -> bool:
        """Whether its pixels are integers of more than 8 bits, or floats."""
        return is_deep(self.mode)

    @property
    def megapixels(self) -> float:
        """Its size."""
        return self.size[0] * self.size[1] / 1e6


def header(path: str | Path) -> Header | None:
    """The header of a file; None where it holds no picture that Pillow can read."""
    try:
        with Image.open(path) as file:
            if isinstance(file, ImageFile.StubImageFile) or file.format in NAMED_ONLY:
                return None
            return Header(file.size, file.mode, bool(getattr(file, "is_animated", False)))
    except BROKEN:
        return None


@contextlib.contextmanager
def without_pillows_limit() -> Iterator[None]:
    """Let Pillow read pictures of any size; whoever calls looks at the sizes.

    Its own limit warns with a path into its source, and cannot name the file.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def extremes(path: str | Path) -> tuple[float, float] | None:
    """The smallest and the largest value of a picture; None where it cannot be read, or is NaN."""
    try:
        with Image.open(path) as file:
            values = np.asarray(file)
            found = float(values.min()), float(values.max())
    except BROKEN:
        return None
    return found if np.isfinite(found).all() else None


@dataclass(frozen=True, slots=True)
class Preparation:
    """How every picture becomes bytes [channels, height, width].

    Attributes:
        height: In pixels.
        width: In pixels.
        channels: 3 for colour, 1 for grey.
        value_range: What becomes black and what white in pictures of more than 8 bits; None where
            there are none.
        max_megapixels: A larger picture is not decoded.
    """

    height: int
    width: int
    channels: int
    value_range: tuple[float, float] | None = None
    max_megapixels: float = math.inf

    def __call__(self, path: str | Path | BinaryIO) -> np.ndarray:
        """Decode a picture: scale it until it covers the size, and cut out its centre.

        Raises:
            OSError, ValueError and others of `BROKEN`: If it cannot be read.
        """
        with Image.open(path) as file:
            megapixels = file.width * file.height / 1e6
            if megapixels > self.max_megapixels:
                raise ValueError(
                    f"it has {megapixels:.0f} megapixels; remove it, or allow it with "
                    f"dataset.max_megapixels={math.ceil(megapixels)}"
                )
            file.draft(self._mode, (2 * self.width, 2 * self.height))  # JPEG: no finer than needed
            return self.of(file)

    def of(self, picture: Image.Image) -> np.ndarray:
        """The same for a picture that is open.

        Raises:
            OSError, ValueError and others of `BROKEN`: If it cannot be read.
        """
        image = picture
        if is_deep(picture.mode):  # `convert` would clip
            image = Image.fromarray(self._to_bytes(np.asarray(picture), picture.mode))
        elif picture.mode == "P":  # `convert` warns where the palette holds transparency
            image = picture.convert("RGBA")
        size = self.width, self.height
        fitted = ImageOps.fit(image.convert(self._mode), size, Image.Resampling.BICUBIC)
        pixels = np.asarray(fitted).reshape(self.height, self.width, self.channels)
        return pixels.transpose(2, 0, 1)

    @property
    def _mode(self) -> str:
        return "RGB" if self.channels == 3 else "L"

    def _to_bytes(self, values: np.ndarray, mode: str) -> np.ndarray:
        if self.value_range is None:
            raise ValueError(
                "its pixels are floats of unknown range; pass dataset.value_range=[BLACK,WHITE]"
                if mode == "F"
                else "its values have more than 8 bits, and their range was neither declared nor "
                "measured; pass dataset.value_range=[BLACK,WHITE]"
            )
        if not np.isfinite(values).all():
            raise ValueError("its pixels are not all finite")
        low, high = self.value_range
        return (
            (255 * (values.astype(np.float64) - low) / (high - low))
            .clip(0, 255)
            .round()
            .astype("u1")
        )

    def lost(self, size: tuple[int, int]) -> float:
        """The share of a picture's area that is cut off.

        Args:
            size: Its (width, height).

        Example:
            >>> round(Preparation(32, 32, 3).lost((640, 480)), 3)
            0.25
        """
        width, height = size
        scale = max(self.width / width, self.height / height)
        return 1 - self.width * self.height / (scale**2 * width * height)

    def words(self) -> tuple[str, ...]:
        """All of it, for people who use a network that was trained on it."""
        told = [
            f"scaled (bicubic, antialiased) until it covers {self.width}x{self.height} pixels "
            "(width x height), the centre cut out",
            "colour, RGB" if self.channels == 3 else "grey, 0.299 R + 0.587 G + 0.114 B",
            "orientation in EXIF not applied, transparency dropped, of several pictures in a file "
            "the first",
        ]
        if self.value_range is not None:
            low, high = self.value_range
            told.append(f"values of more than 8 bits: {low:g} to {high:g} become 0 to 255")
        return tuple(told)


def shown(path: str) -> str:
    """A path as text that can be written down, whatever bytes it consists of."""
    return path.encode(errors="replace").decode()
