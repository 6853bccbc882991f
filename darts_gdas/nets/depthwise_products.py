"""The three products of a depthwise convolution: outputs, and the gradients of images and weights.

On plain tensors of a CPU they are kernels in C++ (`native`), where those can be built. Elsewhere
they are the library's. On a CPU oneDNN is fast at forward passes and, without dilation, at input
gradients and at weight gradients up to three columns wide: those are kept. For the others exact
rewrites stay inside what is fast (`python -m benchmarks kernels`):

- input gradient: the forward pass with the kernel turned by 180 degrees;
- weight gradient: three columns of the kernel at a time, on an input shifted by whole pixels;
- weight gradient at dilation d: an undilated one on the d x d interleaved grids of pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

import darts_gdas.native as native

FAST_WIDTH = 3
"""Widest kernel of oneDNN's fast weight gradient."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A depthwise convolution.

    Attributes:
        images: Height and width of the images.
        kernel: Height and width of the kernels.
        stride: Of the outputs.
        dilation: Distance of taps.
        rectified: Whether what is convolved is the images' ReLU.
    """

    images: tuple[int, int]
    kernel: tuple[int, int]
    stride: int
    dilation: int
    rectified: bool = False

    @property
    def padding(self) -> tuple[int, int]:
        """What keeps the size at stride 1."""
        return padding(self.kernel, self.dilation)

    def for_images(self, x: Tensor) -> native.Convolution:
        """As the kernels in C++ take it, for as many images and channels as `x` has."""
        shape = x.shape[0], x.shape[1], *self.images
        return native.Convolution(shape, self.kernel, self.stride, self.dilation, self.rectified)


def padding(kernel: Sequence[int], dilation: int) -> tuple[int, int]:
    """What keeps the size at stride 1, from a shape that ends in a kernel's."""
    height, width = kernel[-2:]
    return dilation * (height // 2), dilation * (width // 2)


def outputs(geometry: Geometry, x: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Of each set of kernels w: y(p) = sum over taps t of x(stride p + dilation t) w(t)."""
    how = geometry.for_images(x)
    if how.takes(x, weights, ()):
        return native.convolve_depthwise(how, x, weights)
    x = F.relu(x) if geometry.rectified else x
    return [_convolved(x, w, geometry) for w in weights]


def input_gradient(
    geometry: Geometry, gradients: Sequence[Tensor], weights: Sequence[Tensor]
) -> Tensor:
    """The sum over all sets of kernels of the transposed convolutions, whatever was rectified."""
    how = geometry.for_images(gradients[0])
    if how.takes(gradients[0], weights, gradients):
        dx, _ = native.depthwise_gradients(how, gradients, weights)
        assert dx is not None
        return dx
    pairs = zip(gradients, weights, strict=True)
    if geometry.stride == 1:
        return reduce(torch.add, (_convolved(g, w.flip(2, 3), geometry) for g, w in pairs))
    shape = *gradients[0].shape[:2], *geometry.images
    library: Any = conv2d_input  # its annotations do not know of two paddings
    rest = geometry.stride, geometry.padding, geometry.dilation, shape[1]
    return reduce(torch.add, (library(shape, w, g, *rest) for g, w in pairs))


def weight_gradients(
    geometry: Geometry, x: Tensor, gradients: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Of each gradient g: w(t) = sum over p of x(stride p + dilation t) g(p), x itself."""
    how = geometry.for_images(x)
    if how.takes(x, (), gradients):
        return tuple(native.depthwise_gradients(how, gradients, x=x, of_weights=True)[1])
    kernel, dilation, stride = geometry.kernel, geometry.dilation, geometry.stride
    if stride > 1 or x.shape[3] < dilation * kernel[1]:  # or too narrow to shift
        rest = geometry.padding, dilation, stride
        return tuple(_library_gradient(x, g, kernel, *rest) for g in gradients)
    if dilation > 1:
        x = _interleaved(x, dilation)
        gradients = tuple(_interleaved(g, dilation) for g in gradients)
    top, left = padding(kernel, 1)
    if kernel[1] <= FAST_WIDTH:
        return tuple(_library_gradient(x, g, kernel, (top, left)) for g in gradients)
    rows = top if x.shape[2] < kernel[0] else 0  # a kernel taller than its image is slow, too
    parts: list[list[Tensor]] = [[] for _ in gradients]
    for first in range(0, kernel[1], FAST_WIDTH):
        columns = left - first, left - kernel[1] + first + FAST_WIDTH
        window = _resized(x, *columns, rows)
        size = (kernel[0], FAST_WIDTH)
        for part, g in zip(parts, gradients, strict=True):
            taps = _library_gradient(window, g, size, (top - rows, 0))
            part.append(taps[..., : kernel[1] - first])
    return tuple(torch.cat(part, dim=3) for part in parts)


def _convolved(x: Tensor, weight: Tensor, how: Geometry) -> Tensor:
    """The library's forward pass."""
    return F.conv2d(x, weight, None, how.stride, how.padding, how.dilation, len(weight))


def _resized(x: Tensor, left: int, right: int, rows: int) -> Tensor:
    """Columns of zeros added on both sides, or taken away where negative, and rows added."""
    if rows:
        return F.pad(x, (left, right, rows, rows))
    parts = [x[..., max(-left, 0) : x.shape[3] - max(-right, 0)]]
    if left > 0:
        parts.insert(0, _zeros(x, left))
    if right > 0:
        parts.append(_zeros(x, right))
    return torch.cat(parts, dim=3)  # one pass, where F.pad takes two


def _zeros(x: Tensor, width: int) -> Tensor:
    batch, channels, height, _ = x.shape
    return x.new_zeros(batch, height, width, channels).permute(0, 3, 1, 2)


def _library_gradient(
    x: Tensor,
    gradient: Tensor,
    kernel: Sequence[int],
    padding: tuple[int, int],
    dilation: int = 1,
    stride: int = 1,
) -> Tensor:
    channels = x.shape[1]
    library: Any = conv2d_weight  # its annotations do not know of two paddings
    return library(x, (channels, 1, *kernel), gradient, stride, padding, dilation, channels)


def _interleaved(x: Tensor, step: int) -> Tensor:
    """The step x step grids of every step-th pixel, below each other in the batch dimension."""
    x = F.pad(x, (0, -x.shape[3] % step, 0, -x.shape[2] % step))
    height, width = x.shape[2:]
    grids = x.permute(0, 2, 3, 1).unflatten(2, (width // step, step))
    grids = grids.unflatten(1, (height // step, step))  # [batch, rows, step, columns, step, c]
    grids = grids.permute(2, 4, 0, 1, 3, 5).flatten(0, 2)  # one copy
    return grids.permute(0, 3, 1, 2)
