"""Calls of the kernels for images, pooled or not, that are normalised by their batch."""

from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from darts_gdas.native.tensors import LANES, images_like, readable, run, side_by_side, usable


class Taken(Enum):
    """What is taken of a window of 3x3 pixels: `pixel` of none, the images stay as they are."""

    mean = 0
    largest = 1
    pixel = 2


class Pool(NamedTuple):
    """Pooling of 3x3 pixels, padded by one, none of which counts; or none at all.

    Attributes:
        images: Shape of the images, [images, channels, height, width].
        stride: 1 or 2; height and width are divided by it, rounding up. 1 without pooling.
        taken: What is taken of a window.
    """

    images: tuple[int, int, int, int]
    stride: int
    taken: Taken

    def takes(self, x: Tensor, *reduced: Tensor) -> bool:
        """Whether it can be computed in C++, with the norm behind it.

        Args:
            x: The images, or what lies as they do.
            reduced: Images of the outputs' shape.
        """
        images, channels, height, width = self.reduced
        return (
            channels % LANES == 0
            and 0 not in self.images
            and images * height * width > 1  # one value has no variance
            and readable(x, (self.images, self.reduced), reduced)
        )

    def takes_kept(self, y: Tensor, inverse: Tensor, taps: Tensor | None) -> bool:
        """Whether these are what `Normalized` held: hooks may give back other tensors."""
        if inverse.shape != y.shape[1:2] or not usable(y, inverse):
            return False
        if taps is None:
            return self.taken is not Taken.largest
        lies_so = taps.is_contiguous(memory_format=torch.channels_last)
        return taps.dtype is torch.uint8 and taps.is_cpu and taps.shape == self.reduced and lies_so

    @property
    def reduced(self) -> tuple[int, int, int, int]:
        """Shape of the outputs."""
        images, channels, height, width = self.images
        return images, channels, -(-height // self.stride), -(-width // self.stride)


class Normalized(NamedTuple):
    """Pooled images normalised by their batch, and what their gradient needs beside them.

    Attributes:
        y: The images.
        mean: Of the batch.
        variance: Of the batch, unbiased.
        inverse: What the differences from the mean were multiplied by.
        taps: Of every window the largest pixel, 0 to 8 in the order of scanning; None where that
            is not what was taken.
    """

    y: Tensor
    mean: Tensor
    variance: Tensor
    inverse: Tensor
    taps: Tensor | None


def normalized_pool(how: Pool, x: Tensor, eps: float) -> Normalized:
    """Images pooled, then normalised.

    Args:
        how: The pooling.
        x: Images.
        eps: Added to the variances.
    """
    y = images_like(how.reduced, x)
    mean, variance, inverse = (x.new_empty(how.images[1]) for _ in range(3))
    taps = torch.empty_like(y, dtype=torch.uint8) if how.taken is Taken.largest else None
    found = Normalized(y, mean, variance, inverse, taps)
    run("normalized_pool", _sizes(how, x), float(eps), [x], found)
    return found


def normalized_pool_gradient(
    how: Pool, gradient: Tensor, y: Tensor, inverse: Tensor, taps: Tensor | None
) -> Tensor:
    """What reaches the images.

    Args:
        how: The pooling.
        gradient: Of the normalised images.
        y: These.
        inverse: See `Normalized`.
        taps: See `Normalized`.
    """
    found = images_like(how.images, y)
    read = [side_by_side(gradient), y, inverse.contiguous(), taps]
    run("normalized_pool_gradient", _sizes(how, y), read, [found])
    return found


def _sizes(how: Pool, like: Tensor) -> tuple[int, ...]:
    images, channels, height, width = how.images
    threads = torch.get_num_threads()
    geometry = images, height, width, channels, *how.reduced[2:], how.stride
    return like.itemsize, threads, how.taken.value, *geometry
