"""From numbers of any type and any order of axes to bytes, a range for each channel."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from darts_gdas.runtime.images import CHUNK

USUAL_CHANNELS = (1, 3, 4)
"""Grey, colour, and colour with one more: infrared, or transparency."""


class Layout(Enum):
    """Where the channels of images stand: [N, C, H, W] or [N, H, W, C]; `auto` finds out."""

    auto = "auto"
    channels_first = "channels_first"
    channels_last = "channels_last"


def with_channels_first(images: np.ndarray, layout: Layout, what: str) -> np.ndarray:
    """A view [images, channels, height, width]; grey images may be [images, height, width].

    `auto` takes the one order in which images are as most are: of 1, 3 or 4 channels, or square.

    Args:
        images: Numbers.
        layout: Where the channels are.
        what: Names them in an error.

    Raises:
        ValueError: If the axes do not fit, or `auto` finds both orders usual, or neither.
    """
    if images.ndim == 3 and images.size:
        return images[:, None]
    if images.ndim != 4 or not images.size:
        raise ValueError(
            f"{what} must be [images, height, width], with channels before or behind height and "
            f"width, got shape {list(images.shape)}"
        )
    if layout is Layout.auto:
        _, *first = images.shape  # channels, height, width
        last = [first[2], first[0], first[1]]
        if _is_usual(*first) == _is_usual(*last):
            told = [f"{c} channels of {height}x{width}" for c, height, width in (first, last)]
            raise ValueError(
                f"{what} of shape {list(images.shape)}: dataset.layout must say where the channels "
                f"are, channels_first ({told[0]} pixels) or channels_last ({told[1]} pixels)"
            )
        layout = Layout.channels_first if _is_usual(*first) else Layout.channels_last
    return images if layout is Layout.channels_first else images.transpose(0, 3, 1, 2)


def _is_usual(channels: int, height: int, width: int) -> bool:
    return channels in USUAL_CHANNELS or height == width


@dataclass(frozen=True, slots=True)
class Scale:
    """What becomes 0 and what becomes 255 in each channel; bytes stay what they are.

    Attributes:
        ends: (low, high) of each channel; None for bytes.
        kind: The type of the numbers, in this machine's order of bytes.
    """

    ends: tuple[tuple[float, float], ...] | None
    kind: np.dtype

    @classmethod
    def of(
        cls,
        parts: Sequence[np.ndarray],
        declared: Sequence[float] | None,
        what: str,
        trained: Callable[[], Sequence[Int64[Tensor, " images"]]] | None = None,
    ) -> "Scale":
        """The scale of the images that are trained on.

        Args:
            parts: Numbers, each [images, channels, height, width].
            declared: The ends in all channels; None measures those of whole numbers.
            what: Names them in an error.
            trained: Says which images of each part are trained on, by their positions, where the
                ends are measured; None is all.

        Raises:
            ValueError: If they are no numbers, or of unknown range, or the range has no effect.
        """
        kind, channels = _kind(parts[0]), parts[0].shape[1]
        alike = {(_kind(part), part.shape[1]) for part in parts}
        if kind.kind not in "iufb" or len(alike) > 1:
            raise ValueError(
                f"{what} must be numbers of one type with the same channels, got "
                f"{', '.join(f'{part.shape[1]} of {part.dtype}' for part in parts)}"
            )
        if kind == np.uint8:
            if declared is not None:
                raise ValueError(f"dataset.value_range has no effect: {what} holds bytes")
            return cls(None, kind)
        if declared is not None:
            return cls(((declared[0], declared[1]),) * channels, kind)
        if kind.kind == "f":
            raise ValueError(
                f"{what} holds floats of unknown range; pass dataset.value_range=[BLACK,WHITE], "
                "such as [0,1]"
            )
        low, high = _extremes(parts, trained() if trained else map(_all, parts))
        return cls(tuple(zip(low.tolist(), np.maximum(high, low + 1).tolist(), strict=True)), kind)

    def bytes(self, images: np.ndarray, what: str) -> UInt8[Tensor, "images channels height width"]:
        """Images as bytes, rounded, and cut off beyond the ends.

        Args:
            images: Numbers, [images, channels, height, width].
            what: Names them in an error.

        Raises:
            ValueError: If they are of another type or other channels than the scale, or not finite.
        """
        if _kind(images) != self.kind or (self.ends and len(self.ends) != images.shape[1]):
            raise ValueError(
                f"{what} must be like the images to train on, which are {self.kind}, got "
                f"{images.shape[1]} channels of {images.dtype}"
            )
        if self.ends is None:
            return torch.from_numpy(np.array(images, order="C"))
        low, high = np.array(self.ends).T[:, None, :, None, None]
        found = np.empty(images.shape, dtype=np.uint8)
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK].astype(np.float64)
            if not (is_finite := np.isfinite(chunk)).all():
                at = start + int(np.argwhere(~is_finite)[0, 0])
                raise ValueError(f"{what} must be finite, but image {at} (from 0) is not")
            found[start : start + CHUNK] = (255 * (chunk - low) / (high - low)).clip(0, 255).round()
        return torch.from_numpy(found)

    def words(self) -> tuple[str, ...]:
        """What was done, for people who use a network that was trained on it."""
        if self.ends is None:
            return ("none: the bytes of the arrays",)
        if len(set(self.ends)) == 1:
            return ("values from {:g} to {:g} become 0 to 255".format(*self.ends[0]),)
        told = ", ".join(f"{low:g} to {high:g}" for low, high in self.ends)
        return (f"values of each channel become 0 to 255: {told}",)


def _extremes(
    parts: Sequence[np.ndarray], chosen: Iterable[Int64[Tensor, " images"]]
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest value of each channel among the chosen images."""
    ends = [
        (found.min((0, 2, 3)), found.max((0, 2, 3)))
        for part, positions in zip(parts, chosen, strict=True)
        for some in positions.split(CHUNK)
        if len(found := part[some.numpy()])
    ]
    low, high = (np.stack(end).astype(np.float64) for end in zip(*ends, strict=True))
    return low.min(0), high.max(0)


def _all(part: np.ndarray) -> Int64[Tensor, " images"]:
    return torch.arange(len(part))


def _kind(values: np.ndarray) -> np.dtype:
    return values.dtype.newbyteorder("=")
