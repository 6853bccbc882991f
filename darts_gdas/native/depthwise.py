"""Calls of the kernels for depthwise convolutions."""

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

SIDES = (3, 5, 7)
"""Of square depthwise kernels."""


class Convolution(NamedTuple):
    """A depthwise convolution that pads with zeros to keep the size at stride 1.

    Attributes:
        images: Shape of the images, [images, channels, height, width].
        kernel: Height and width of the kernels; both one of `SIDES`.
        stride: Height and width are divided by it, rounding up.
        dilation: Distance of neighbouring taps in pixels.
        rectified: Whether what is convolved is the images' ReLU.
    """

    images: tuple[int, int, int, int]
    kernel: tuple[int, int]
    stride: int = 1
    dilation: int = 1
    rectified: bool = False

    def takes(self, images: Tensor, weights: Sequence[Tensor], reduced: Sequence[Tensor]) -> bool:
        """Whether it can be computed in C++, for what of the three there is.

        Args:
            images: What is read first: images, or the first of the gradients.
            weights: Sets of kernels.
            reduced: Images of the outputs' shape.
        """
        channels, height, width = self.images[1:]
        side = self.kernel[0]
        margin = self.dilation * (side // 2)
        kernels, outputs = (channels, 1, side, side), self.reduced
        return (
            self.kernel == (side, side)
            and side in SIDES
            and channels % LANES == 0
            and 0 not in self.images
            and margin <= max(height, width)  # else most of a frame is zeros
            and readable(images, (self.images, outputs), reduced, weights, kernels)
        )

    @property
    def reduced(self) -> tuple[int, int, int, int]:
        """Shape of the outputs."""
        images, channels, height, width = self.images
        return images, channels, -(-height // self.stride), -(-width // self.stride)


def convolve_depthwise(how: Convolution, x: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """The same images convolved with several sets of kernels [channels, 1, side, side]."""
    outputs = [images_like(how.reduced, x) for _ in weights]
    _depthwise(0, how, [side_by_side(x)], [w.contiguous() for w in weights], outputs)
    return outputs


def depthwise_gradients(
    how: Convolution,
    gradients: Sequence[Tensor],
    weights: Sequence[Tensor] = (),
    x: Tensor | None = None,
    *,
    of_weights: bool = False,
) -> tuple[Tensor | None, list[Tensor]]:
    """What reaches the images, of all sets of kernels, and what reaches each of these.

    Args:
        how: The convolution.
        gradients: Of the outputs of every set.
        weights: The sets; none if the images' gradient is not asked for.
        x: The images, which the weights' gradients depend on and, where they are rectified, their
            own.
        of_weights: Whether the weights' gradients are asked for.
    """
    shape = how.images[1], 1, *how.kernel
    dx = images_like(how.images, gradients[0]) if weights else None
    found = [gradients[0].new_empty(shape) for _ in gradients] if of_weights else []
    read = [*map(side_by_side, gradients), None if x is None else side_by_side(x)]
    out = [dx, *(found or [None] * len(gradients))]
    _depthwise(1, how, read, [w.contiguous() for w in weights], out)
    return dx, found


def _depthwise(
    what: int,
    how: Convolution,
    left: Sequence[Tensor | None],
    right: Sequence[Tensor],
    out: Sequence[Tensor | None],
) -> None:
    images, channels, height, width = how.images
    geometry = (
        images,
        height,
        width,
        channels,
        *how.reduced[2:],
        how.kernel[0],
        how.stride,
        how.dilation,
    )
    edges = len(out) - what  # of gradients the images' is the first
    threads, rectified = torch.get_num_threads(), int(how.rectified)
    first = left[0]
    assert first is not None
    sizes = first.itemsize, threads, edges, rectified, *geometry
    run("depthwise", what, sizes, left, right, out)
