"""Images as rows of channels, one per pixel, sums over pixels, and every second pixel."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import darts_gdas.native as native
from darts_gdas.nets.functions import apply

Rows = Float[Tensor, "edges pixels channels"]
OtherRows = Float[Tensor, "edges pixels others"]

_MOST_CUTS = 256
"""Most pieces that pixels are cut into on a GPU: more than it has multiprocessors."""


def rows_of(x: Tensor, channels: int) -> Float[Tensor, "edges pixels channels"]:
    """Pixels as rows, one matrix per edge; a view of a tensor in channels_last."""
    pixels = x.permute(0, 2, 3, 1)
    if x.shape[1] == channels:
        return pixels.reshape(1, -1, channels)
    return pixels.reshape(-1, x.shape[1] // channels, channels).transpose(0, 1)


def wide(x: Tensor) -> Tensor:
    """In float32 at least, to sum over many pixels."""
    return x.float() if x.dtype.itemsize < 4 else x


def products_of(left: Rows, right: OtherRows) -> Float[Tensor, "edges channels others"]:
    """Sum over pixels of the outer products of two sets of channels, edge by edge.

    A GPU's library gives a product to one multiprocessor, however many pixels it sums over.
    """
    return _cut_products(left, right) if left.is_cuda else torch.bmm(left.mT, right)


def _cut_products(left: Rows, right: OtherRows) -> Float[Tensor, "edges channels others"]:
    """The same from products of up to `_MOST_CUTS` pieces of the pixels.

    Edges are multiplied with each other too, as their channels lie side by side in memory; what
    belongs to two different edges is left out.
    """
    edges, pixels, _ = left.shape
    cuts = math.gcd(pixels, _MOST_CUTS)
    a, b = (rows.transpose(0, 1).reshape(cuts, pixels // cuts, -1) for rows in (left, right))
    total = torch.bmm(a.mT, b).sum(0).unflatten(1, (edges, -1)).unflatten(0, (edges, -1))
    return total.diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def even_and_odd(x: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of even rows and columns, and of odd ones: a quarter of the image each.

    Where the number of rows or columns is odd, one of zeros is added.
    """
    height, width = x.shape[2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2))
    if native.recorded():  # which know slices better
        return _EvenAndOdd.forward(x)
    return apply(_EvenAndOdd, x)


def every(x: Tensor, step: int) -> Tensor:
    """Pixels of every `step`-th row and column, from the first on."""
    # An image to its gradient, not two. A graph that is recorded would hold for such sizes alone.
    if step == 2 and not native.recorded() and not (x.shape[2] % 2 or x.shape[3] % 2):
        return even_and_odd(x)[0]
    return x[:, :, ::step, ::step]


class _EvenAndOdd(torch.autograd.Function):
    """Both quarters. Slices' own gradients would be four images of zeros and a sum; this is one."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)  # whose zeros lie in another layout

    @staticmethod
    def backward(ctx: Any, *quarters: Tensor | None) -> Tensor | None:
        found = [quarter for quarter in quarters if quarter is not None]
        if not found:
            return None
        return apply(_Joined, *(torch.zeros_like(found[0]) if q is None else q for q in quarters))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> tuple[Tensor, Tensor]:
        return _EvenAndOdd.forward(*tangents)


class _Joined(torch.autograd.Function):
    """The image of two quarters, zero in the other two."""

    generate_vmap_rule = True

    @staticmethod
    def forward(even: Tensor, odd: Tensor) -> Tensor:
        batch, channels, height, width = even.shape
        if any(map(native.transformed, (even, odd))):  # which cannot be written into others
            zero = torch.zeros_like(even)
            rows = [torch.stack(pair, dim=4) for pair in ((even, zero), (zero, odd))]
            return torch.stack(rows, dim=3).reshape(batch, channels, 2 * height, 2 * width)
        if even.is_contiguous(memory_format=torch.channels_last):
            image = even.new_zeros(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
        else:
            image = even.new_zeros(batch, channels, 2 * height, 2 * width)
        image[:, :, ::2, ::2] = even
        image[:, :, 1::2, 1::2] = odd
        return image

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return apply(_EvenAndOdd, *gradients)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return _Joined.forward(*tangents)
