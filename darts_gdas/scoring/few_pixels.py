"""Convolutions and poolings of few pixels as products with matrices.

On images of 3x3 to 8x8 pixels the library takes ten times as long to prepare a convolution as the
arithmetic takes. A layer without a nonlinearity is an affine map of its input's numbers, and its
matrix follows from what it makes of the unit images; one product with it replaces the layer.
"""

from typing import Any

import torch
from torch import Tensor, nn

MOST_NUMBERS = 128
"""Up to so many numbers per image a product beats the library, on a CPU."""

LAYERS = (nn.Conv2d, nn.AvgPool2d)


class Matrices:
    """Layers as matrices, made once for each size of image; their weights must not change."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, torch.Size], tuple[Tensor, Tensor, torch.Size]] = {}

    def run(self, layer: nn.Module, x: Tensor) -> Tensor | None:
        """What a layer makes of images, its weights constant; None where the library is faster.

        Args:
            layer: One of `LAYERS`.
            x: Images [batch, channels, height, width].
        """
        if x[0].numel() > MOST_NUMBERS:
            return None
        key = id(layer), x.shape[1:]
        if key not in self._made:
            self._made[key] = _affine_map(layer, x)
        matrix, bias, shape = self._made[key]
        return torch.addmm(bias, x.flatten(1), matrix).view(-1, *shape)


@torch.no_grad()
def _affine_map(layer: Any, like: Tensor) -> tuple[Tensor, Tensor, torch.Size]:
    """Matrix, bias and shape of the output, from zeros and from the unit images."""
    size = like[0].numel()
    units = torch.eye(size, dtype=like.dtype, device=like.device).view(size, *like.shape[1:])
    forward = type(layer).forward  # an instance may have one in its place
    bias = forward(layer, torch.zeros_like(units[:1]))
    images = forward(layer, units)
    return (images - bias).flatten(1).contiguous(), bias.flatten(), images.shape[1:]
