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
        sets: So many sets of kernels convolve the same images, whose transforms they share.
        rectified: Whether what is convolved is the images' ReLU.

    Reference:
        Lavin and Gray, CVPR 2016, https://arxiv.org/abs/1509.09308, F(2x2, 3x3).
    """

    images: tuple[int, int, int, int]
    out_channels: int
    sets: int = 1
    rectified: bool = False

    def takes(self, images: Tensor, weights: Sequence[Tensor], reduced: Sequence[Tensor]) -> bool:
        """Whether it can be computed in C++, for what of the three there is.

        Args:
            images: What is read first: images, or gradients of the outputs.
            weights: Sets of kernels [out_channels, channels, 3, 3], or none.
            reduced: Images of the outputs' shape.
        """
        channels, out_channels = self.images[1], self.out_channels
        kernels, outputs = self.weights, self.reduced
        return (
            channels % LANES == 0
            and out_channels % LANES == 0
            and max(channels, out_channels * self.sets) <= MOST_CHANNELS
            and 0 not in outputs
            and channels > 0
            and readable(images, (self.images, outputs), reduced, weights, kernels)
        )

    @property
    def reduced(self) -> tuple[int, int, int, int]:
        """Shape of the outputs."""
        images, _, height, width = self.images
        return images, self.out_channels, height, width

    @property
    def weights(self) -> tuple[int, int, int, int]:
        """Shape of a set of kernels."""
        return self.out_channels, self.images[1], 3, 3


def convolve(how: DenseConvolution, x: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """The images convolved with sets of kernels [out_channels, channels, 3, 3]."""
    outputs = [images_like(how.reduced, x) for _ in weights]
    read = [side_by_side(x), *(w.contiguous() for w in weights)]
    run("convolution", _sizes(how, x), read, outputs)
    return outputs


def convolution_gradients(
    how: DenseConvolution,
    gradients: Sequence[Tensor],
    weights: Sequence[Tensor] = (),
    x: Tensor | None = None,
    *,
    of_weights: bool = False,
) -> tuple[Tensor | None, list[Tensor]]:
    """What reaches the images, and what reaches the kernels.

    Args:
        how: The convolution.
        gradients: Of the outputs of each set.
        weights: The sets; none if the images' gradient is not asked for.
        x: The images, for their ReLU or with `of_weights`; else None will do.
        of_weights: Whether the kernels' gradients are asked for.
    """
    like, nothing = gradients[0], [None] * how.sets
    dx = images_like(how.images, like) if weights else None
    dw = [like.new_empty(how.weights) for _ in gradients] if of_weights else []
    sets = [w.contiguous() for w in weights] or nothing
    read = [None if x is None else side_by_side(x), *sets, *map(side_by_side, gradients)]
    run("convolution_gradients", _sizes(how, like), read, [dx, *(dw or nothing)])
    return dx, dw


def _sizes(how: DenseConvolution, like: Tensor) -> tuple[int, ...]:
    images, channels, height, width = how.images
    threads, outputs = torch.get_num_threads(), (how.out_channels, how.sets, int(how.rectified))
    return like.itemsize, threads, images, height, width, channels, *outputs
