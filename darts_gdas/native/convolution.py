"""Calls of the kernels for dense convolutions of 3x3 pixels."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from darts_gdas.native.tensors import (
    LANES,
    images_like,
    readable,
    run,
    side_by_side,
)

MOST_CHANNELS = 128
"""Of a side: the sums of the weights' gradient are kept for every part of the images."""


class DenseConvolution(NamedTuple):
    """A convolution of 3x3 pixels that pads with zeros to keep the size.

    It is computed on tiles of pixels (Winograd's minimal filtering), as sums of differences. Of
    infinite numbers those are none: where torch has infinity, this may have NaN.

    Attributes:
        images: Shape of the images, [images, channels, height, width].
        out_channels: Of the outputs.

    Reference:
        Lavin and Gray, CVPR 2016, https://arxiv.org/abs/1509.09308, F(2x2, 3x3).
    """

    images: tuple[int, int, int, int]
    out_channels: int

    def takes(self, images: Tensor, weights: Sequence[Tensor], reduced: Sequence[Tensor]) -> bool:
        """Whether it can be computed in C++, for what of the three there is.

        Args:
            images: What is read first: images, or gradients of the outputs.
            weights: Kernels [out_channels, channels, 3, 3], or none.
            reduced: Images of the outputs' shape.
        """
        channels, out_channels = self.images[1], self.out_channels
        kernels, outputs = (out_channels, channels, 3, 3), self.reduced
        return (
            channels % LANES == 0
            and out_channels % LANES == 0
            and max(channels, out_channels) <= MOST_CHANNELS
            and 0 not in outputs
            and channels > 0
            and readable(images, (self.images, outputs), reduced, weights, kernels)
        )

    @property
    def reduced(self) -> tuple[int, int, int, int]:
        """Shape of the outputs."""
        images, _, height, width = self.images
        return images, self.out_channels, height, width


def convolve(how: DenseConvolution, x: Tensor, weight: Tensor) -> Tensor:
    """The images convolved with kernels [out_channels, channels, 3, 3]."""
    y = images_like(how.reduced, x)
    run("convolution", _sizes(how, x), [side_by_side(x), weight.contiguous()], [y])
    return y


def convolution_gradients(
    how: DenseConvolution, gradient: Tensor, weight: Tensor | None = None, x: Tensor | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """What reaches the images, and what reaches the kernels.

    Args:
        how: The convolution.
        gradient: Of the outputs.
        weight: The kernels; None if the images' gradient is not asked for.
        x: The images; None if the kernels' gradient is not asked for.
    """
    dx = None if weight is None else images_like(how.images, gradient)
    dw = None if x is None else gradient.new_empty(how.out_channels, how.images[1], 3, 3)
    kernels = None if weight is None else weight.contiguous()
    read = [side_by_side(gradient), kernels, None if x is None else side_by_side(x)]
    run("convolution_gradients", _sizes(how, gradient), read, [dx, dw])
    return dx, dw


def _sizes(how: DenseConvolution, like: Tensor) -> tuple[int, ...]:
    images, channels, height, width = how.images
    threads = torch.get_num_threads()
    return like.itemsize, threads, images, height, width, channels, how.out_channels
