"""Convolutions and poolings as products with matrices, where those are faster.

On images of 2x2 to 8x8 pixels the library takes far longer to prepare a convolution, and most of
all its derivative, than the arithmetic takes: a product with the matrix of the map is up to thirty
times as fast (5x5 kernels with dilation), though most of that matrix may be zeros. On images of any
size a 1x1 convolution of few channels is two to nine times as fast as one product per image, and an
average pooling two to six times as one product for the rows and one for the columns.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from darts_gdas.ntk.layers import is_depthwise

MOST_NUMBERS = 128
"""Images of up to so many numbers are multiplied as a whole."""

MOST_PIXELS = 64
"""Up to so many pixels a depthwise convolution has a matrix for each channel."""

LAYERS = (nn.Conv2d, nn.AvgPool2d)

Shape = tuple[int, ...]


class Matrices:
    """Layers as matrices, made once for each size of image; their weights must not change."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], Any] = {}

    def run(self, layer: nn.Module, x: Tensor) -> Tensor | None:
        """What a layer makes of images, its weights constant; None where the library is faster.

        Args:
            layer: A convolution, zero-padded, or an average pooling.
            x: Images [batch, channels, height, width].
        """
        key = id(layer), x.dtype, tuple(x.shape[1:])
        if key not in self._made:
            with torch.no_grad():
                takes = x.is_cpu and x.itemsize >= 4  # a bias is subtracted, which costs digits
                self._made[key] = _as_matrix(layer, x) if takes else None
        made = self._made[key]
        return None if made is None else made(x)


def _as_matrix(layer: nn.Module, like: Tensor) -> Any:
    """A function of images that is the layer, or None."""
    if like[0].numel() <= MOST_NUMBERS:
        return _whole(layer, like)
    if isinstance(layer, nn.AvgPool2d):
        rows, columns = (_along(layer, axis, like) for axis in (0, 1))
        return lambda x: torch.matmul(rows.mT, torch.matmul(x, columns))
    if not isinstance(layer, nn.Conv2d) or layer.bias is not None:
        return None
    if is_depthwise(layer) and like.shape[2] * like.shape[3] <= MOST_PIXELS:
        geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        taps, shape = _taps(geometry, tuple(like.shape[2:]))
        padded = F.pad(layer.weight.detach().flatten(1), (0, 1))  # the last one is no tap
        return _Apart(padded[:, taps], shape)
    is_pointwise = layer.kernel_size == layer.stride == (1, 1) and not any(layer.padding)
    if is_pointwise and layer.groups == 1:
        weight = layer.weight.detach().flatten(1)
        return lambda x: _shaped(torch.matmul(weight, x.flatten(2)), x.shape[2:])
    return None


class _Apart:
    """Every channel by itself, with a matrix of its own [channels, in, out]."""

    def __init__(self, matrix: Tensor, shape: Shape) -> None:
        self.matrix, self.shape = matrix, shape

    def __call__(self, x: Tensor) -> Tensor:
        y = torch.bmm(x.flatten(2).transpose(0, 1), self.matrix)
        return y.transpose(0, 1).unflatten(2, self.shape)


def _whole(layer: nn.Module, like: Tensor) -> Any:
    """The affine map of all numbers of an image, from zeros and from the unit images."""
    size = like[0].numel()
    units = torch.eye(size, dtype=like.dtype).view(size, *like.shape[1:])
    forward: Any = type(layer).forward  # an instance may have one in its place
    bias, images = forward(layer, torch.zeros_like(units[:1])), forward(layer, units)
    matrix, shape = (images - bias).flatten(1), images.shape[1:]
    if not bias.any():
        return lambda x: (x.flatten(1) @ matrix).view(-1, *shape)
    return lambda x: torch.addmm(bias.flatten(), x.flatten(1), matrix).view(-1, *shape)


def _along(pool: nn.AvgPool2d, axis: int, like: Tensor) -> Float[Tensor, "in out"]:
    """The pooling along one axis: it averages over rows, then over columns."""
    only = [axis, 1 - axis]  # which of the two axes it leaves alone
    kernel, stride, padding = (
        [one if alone else both[i] for i, alone in enumerate(only)]
        for both, one in (
            (_pair(pool.kernel_size), 1),
            (_pair(pool.stride), 1),
            (_pair(pool.padding), 0),
        )
    )
    divisor = pool.divisor_override and (pool.divisor_override if axis == 0 else 1)
    size = like.shape[2 + axis]
    units = torch.eye(size, dtype=like.dtype).view(
        size, 1, *((size, 1) if axis == 0 else (1, size))
    )
    images = F.avg_pool2d(
        units, kernel, stride, padding, pool.ceil_mode, pool.count_include_pad, divisor
    )
    return images.flatten(1)


def _pair(value: Any) -> tuple[int, ...]:
    both = (value,) if isinstance(value, int) else tuple(value)
    return both * 2 if len(both) == 1 else both


def _shaped(y: Tensor, size: Sequence[int]) -> Tensor:
    """Its last numbers as images, and no view: the next layer may work in place."""
    return torch.ops.aten._unsafe_view(y, (*y.shape[:2], *size))


@lru_cache(maxsize=64)
def _taps(geometry: tuple[Shape, ...], size: Shape) -> tuple[Int64[Tensor, "in out"], Shape]:
    """By which tap of a kernel an input reaches an output; the number of taps stands for none.

    Args:
        geometry: Kernel, stride, padding and dilation.
        size: Height and width of the images.
    """
    kernel, stride, padding, dilation = geometry
    numbers = torch.arange(1, 1 + kernel[0] * kernel[1], dtype=torch.float64).view(1, 1, *kernel)
    units = torch.eye(size[0] * size[1], dtype=torch.float64).view(-1, 1, *size)
    images = F.conv2d(units, numbers, None, stride, padding, dilation)
    found = images.flatten(1).long()
    return torch.where(found > 0, found - 1, numbers.numel()), tuple(images.shape[2:])
