"""Calls of the kernels for dense convolutions."""

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
    """A convolution that pads with zeros to keep the size, but for its stride.

    One of 3x3 pixels without a stride is computed on tiles of pixels (Winograd's minimal
    filtering), as sums of differences; others tap by tap. Of infinite numbers those are none: where
    torch has infinity, this may have NaN.

    Attributes:
        images: Shape of the images, [images, channels, height, width].
        out_channels: Of the outputs.
        kernel: Its height and width, odd.
        stride: Height and width are divided by it, rounding up.

    Reference:
        Lavin and Gray, CVPR 2016, https://arxiv.org/abs/1509.09308, F(2x2, 3x3).
    """

    images: tuple[int, int, int, int]
    out_channels: int
    kernel: int = 3
    stride: int = 1

    def takes(self, images: Tensor, weights: Sequence[Tensor], reduced: Sequence[Tensor]) -> bool:
        """Whether it can be computed in C++, for what of the three there is.

        Args:
            images: What is read first: images, or gradients of the outputs.
            weights: Kernels [out_channels, channels, kernel, kernel], or none.
            reduced: Images of the outputs' shape.
        """
        channels, out_channels = self.images[1], self.out_channels
        kernels, outputs = self.weights, self.reduced
        return (
            self.kernel % 2 == 1
            and channels % LANES == 0
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
        down, across = (-(-side // self.stride) for side in (height, width))
        return images, self.out_channels, down, across

    @property
    def weights(self) -> tuple[int, int, int, int]:
        """Shape of the kernels."""
        return self.out_channels, self.images[1], self.kernel, self.kernel

    def name(self, what: str) -> str:
        """The kernel in C++ that computes it, or its gradients."""
        return what if (self.kernel, self.stride) == (3, 1) else f"direct_{what}"

    def sizes(self, like: Tensor) -> tuple[int, ...]:
        """What the kernels are told, with numbers like those of a tensor."""
        images, channels, height, width = self.images
        shape = images, height, width, channels, self.out_channels, self.kernel, self.stride
        return like.itemsize, torch.get_num_threads(), *shape


def convolve(how: DenseConvolution, x: Tensor, weight: Tensor) -> Tensor:
    """The images convolved with kernels [out_channels, channels, kernel, kernel]."""
    y = images_like(how.reduced, x)
    run(how.name("convolution"), how.sizes(x), [side_by_side(x), weight.contiguous()], [y])
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
    dw = None if x is None else gradient.new_empty(how.weights)
    kernels = None if weight is None else weight.contiguous()
    read = [side_by_side(gradient), kernels, None if x is None else side_by_side(x)]
    run(how.name("convolution_gradients"), how.sizes(gradient), read, [dx, dw])
    return dx, dw
