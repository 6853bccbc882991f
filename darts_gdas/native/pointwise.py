"""Calls of the kernels for weighted sums of normalised pointwise convolutions."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from darts_gdas.native.tensors import (
    LANES,
    images_like,
    run,
    side_by_side,
    usable,
)


def takes_sums(
    pointwise: Tensor, scale: Tensor, inputs: Sequence[Tensor], others: Sequence[Tensor]
) -> bool:
    """Whether `normalized_sum` can be computed in C++.

    Args:
        pointwise: Matrices [terms, edges, out_channels, channels].
        scale: Weights [terms + features, edges].
        inputs: Images, term after term: one edge each, all of one shape, in whole vectors.
        others: Summands, and gradients of the sums.
    """
    terms, edges, outputs, channels = pointwise.shape
    if channels % LANES or outputs % LANES or len(inputs) != terms * edges:
        return False
    images, _, height, width = inputs[0].shape
    shape, reduced = (images, channels, height, width), (images, outputs, height, width)
    return (
        inputs[0].numel() > 0
        and len(scale) >= terms
        and scale.shape[1:] == (edges,)
        and all(x.shape == shape for x in inputs)
        and all(x.shape == reduced for x in others)
        and usable(pointwise, scale, *inputs, *others)
    )


class Gradients(NamedTuple):
    """Derivatives of `normalized_sum`; None where nobody asked."""

    pointwise: Tensor | None
    scale: Tensor | None
    inputs: list[Tensor | None]
    features: list[Tensor | None]


def normalized_sum(
    pointwise: Tensor,
    scale: Tensor,
    eps: float,
    inputs: Sequence[Sequence[Tensor]],
    features: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """`nets.pointwise.normalized_sum` in batch statistics, of one edge per part.

    Args:
        pointwise: Matrices [terms, edges, out_channels, channels].
        scale: Weights [terms + features, edges].
        eps: Added to the variances.
        inputs: Images [terms][edges].
        features: Summands that are ready.

    Returns:
        Means of the inputs, products of the matrices with their covariance, variances of the
        outputs, and the sums.
    """
    terms, edges, outputs, channels = pointwise.shape
    flat = [side_by_side(x) for term in inputs for x in term]
    features = [side_by_side(x) for x in features]
    means = pointwise.new_empty(terms, edges, channels)
    products = pointwise.new_empty(pointwise.shape)
    variances = pointwise.new_empty(terms, edges, outputs)
    images, _, height, width = flat[0].shape
    sums = [images_like((images, outputs, height, width), pointwise) for _ in range(edges)]
    sizes = _sum_sizes(pointwise, features, images * height * width)
    read = [pointwise.contiguous(), scale.contiguous(), *flat, *features]
    run("normalized_sum", sizes, float(eps), read, [means, products, variances, *sums])
    return means, products, variances, sums


def normalized_sum_gradients(
    kept: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    eps: float,
    upstream: Sequence[Tensor],
    inputs: Sequence[Tensor],
    features: Sequence[Tensor],
    needs: Sequence[bool],
) -> Gradients:
    """Derivatives of the sums.

    Args:
        kept: Matrices, weights, means, products and variances.
        eps: As before.
        upstream: Gradients of the sums.
        inputs: Images, term after term.
        features: Summands; none where neither their weights' nor their gradients are asked for.
        needs: Who is asked for: matrices, weights, each input, each summand.
    """
    pointwise, scale, *_ = kept
    inputs, features = ([side_by_side(x) for x in images] for images in (inputs, features))
    upstream = [side_by_side(g) for g in upstream]
    images, _, height, width = inputs[0].shape
    found = [
        torch.empty_like(pointwise, memory_format=torch.contiguous_format) if needs[0] else None,
        torch.empty_like(scale, memory_format=torch.contiguous_format) if needs[1] else None,
    ]
    shape = images, pointwise.shape[3], height, width
    found += [
        images_like(shape, pointwise) if asked else None for asked in needs[2 : 2 + len(inputs)]
    ]
    shape = images, pointwise.shape[2], height, width
    asked = needs[2 + len(inputs) :]
    found += [images_like(shape, pointwise) if one else None for one in asked]
    sizes = _sum_sizes(pointwise, asked, images * height * width)
    placed = features or [pointwise] * len(asked)  # not read, where their weights are not asked for
    read = [*(t.contiguous() for t in kept), *upstream, *inputs, *placed]
    run("normalized_sum_gradients", sizes, float(eps), read, found)
    return Gradients(found[0], found[1], found[2 : 2 + len(inputs)], found[2 + len(inputs) :])


def _sum_sizes(pointwise: Tensor, features: Sequence[object], pixels: int) -> tuple[int, ...]:
    threads = torch.get_num_threads()
    return pointwise.itemsize, threads, *pointwise.shape, len(features), pixels
