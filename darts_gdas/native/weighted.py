"""Calls of the kernels for weighted sums of images, some of them normalised by their batch."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from darts_gdas.native.tensors import LANES, images_like, run, side_by_side, usable


class WeightedSums(NamedTuple):
    """The sums, and what their gradients need beside the images.

    Attributes:
        mean: Of the images that are normalised, [terms * edges, channels].
        variance: Of the same, unbiased.
        inverse: What the differences from the mean were multiplied by.
        sums: One for each edge.
    """

    mean: Tensor
    variance: Tensor
    inverse: Tensor
    sums: list[Tensor]


def takes_weighted(
    images: Sequence[Tensor], weights: Sequence[Tensor], small: Sequence[Tensor] = ()
) -> bool:
    """Whether weighted sums can be computed in C++.

    Args:
        images: Summands, and gradients of the sums: all of one shape, in whole vectors.
        weights: Weights of summands, as they are or stacked.
        small: Numbers of channels, [images that are normalised, channels].
    """
    first, shape = images[0], images[0].shape
    return (
        len(shape) == 4
        and shape[1] % LANES == 0
        and first.numel() > shape[1]  # one value has no variance
        and all([x.shape == shape for x in images])
        and all([t.shape[1:] == shape[1:2] for t in small])
        and usable(*images, *weights, *small)
        and first.is_contiguous(memory_format=torch.channels_last)
    )


def weighted_sums(
    scale: Tensor, eps: float, normed: Sequence[Tensor], features: Sequence[Tensor]
) -> WeightedSums:
    """Sums over terms and features, edge by edge.

    Args:
        scale: Weights [terms + features, edges].
        eps: Added to the variances.
        normed: Images that their batch normalises, of each edge, term after term.
        features: Images as they are, the same for all edges.
    """
    normed, features = ([side_by_side(x) for x in images] for images in (normed, features))
    images, channels, height, width = (*normed, *features)[0].shape
    mean, variance, inverse = (scale.new_empty(len(normed), channels) for _ in range(3))
    shape = images, channels, height, width
    sums = [images_like(shape, scale) for _ in range(scale.shape[1])]
    read = [scale.contiguous(), *normed, *features]
    found = mean, variance, inverse, *sums
    run("weighted_sums", _sizes(scale, len(normed), sums[0]), float(eps), read, found)
    return WeightedSums(mean, variance, inverse, sums)


def weighted_sums_gradients(
    scale: Tensor,
    statistics: tuple[Tensor, Tensor],
    upstream: Sequence[Tensor],
    normed: Sequence[Tensor],
    features: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Derivatives of the sums; None where nobody asked.

    Args:
        scale: As before.
        statistics: Means, and what the differences from them were multiplied by.
        upstream: Gradients of the sums.
        normed: As before.
        features: As before.
        needs: Who is asked for: weights, each image of `normed`, each feature.

    Returns:
        In the order of `needs`.
    """
    scale = scale.contiguous()
    images = [side_by_side(x) for x in (*upstream, *normed, *features)]
    asked = [scale, *images[len(upstream) :]]
    found = [torch.empty_like(x) if n else None for x, n in zip(asked, needs, strict=True)]
    read = [scale, *(t.contiguous() for t in statistics), *images]
    run("weighted_sums_gradients", _sizes(scale, len(normed), images[0]), read, found)
    return found


def _sizes(scale: Tensor, normed: int, like: Tensor) -> tuple[int, ...]:
    edges, channels = scale.shape[1], like.shape[1]
    terms, pixels = normed // edges, like.numel() // channels
    threads, features = torch.get_num_threads(), len(scale) - terms
    return like.itemsize, threads, terms, edges, channels, features, pixels
