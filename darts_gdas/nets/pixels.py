"""Images as rows of channels, one per pixel, and sums over pixels."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

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
