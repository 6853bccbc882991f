"""Calls of the kernels for weighted sums of normalised pointwise convolutions."""

from collections.abc import Sequence

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
    kernels: Sequence[Tensor],
    scale: Tensor,
    inputs: Sequence[Tensor],
    others: Sequence[Tensor],
    statistics: Sequence[Tensor] = (),
) -> bool:
    """Whether `normalized_sum` can be computed in C++.

    Args:
        kernels: Pointwise kernels [out_channels, channels, ...], term after term.
        scale: Weights [terms + features, edges].
        inputs: Images, term after term: one edge each, all of one shape, in whole vectors.
        others: Summands, and gradients of the sums.
        statistics: What is known of inputs and outputs, [terms, edges, ...].
    """
    outputs, channels = kernels[0].shape[:2]
    edges = scale.shape[1]
    if channels % LANES or outputs % LANES or len(inputs) != len(kernels):
        return False
    images, _, height, width = inputs[0].shape
    shape, reduced = (images, channels, height, width), (images, outputs, height, width)
    size = outputs * channels
    pairs = len(kernels) // edges, edges
    known = [(*pairs, outputs), (*pairs, channels), (*pairs, outputs, channels)]
    return (
        inputs[0].numel() > 0
        and len(kernels) % edges == 0
        and len(scale) * edges >= len(kernels)
        and all([w.shape[:2] == (outputs, channels) and w.numel() == size for w in kernels])
        and all([x.shape == shape for x in inputs])
        and all([x.shape == reduced for x in others])
        and all([t.shape in known for t in statistics])
        and usable(scale, *kernels, *inputs, *others, *statistics)
    )


def normalized_sum(
    kernels: Sequence[Tensor],
    scale: Tensor,
    eps: float,
    inputs: Sequence[Tensor],
    features: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """`nets.pointwise.normalized_sum` in batch statistics, of one edge per part.

    Args:
        kernels: Pointwise kernels [out_channels, channels, ...], term after term.
        scale: Weights [terms + features, edges].
        eps: Added to the variances.
        inputs: Images, term after term.
        features: Summands that are ready.

    Returns:
        Means and unbiased variances of the outputs, means of the inputs, products of the kernels
        with their covariance, biased variances of the outputs, all [terms, edges, ...]; then the
        sums.
    """
    outputs, channels = kernels[0].shape[:2]
    edges = scale.shape[1]
    pairs = len(kernels) // edges, edges
    flat, features = ([side_by_side(x) for x in images] for images in (inputs, features))
    mean, unbiased, variances = (scale.new_empty(*pairs, outputs) for _ in range(3))
    means = scale.new_empty(*pairs, channels)
    products = scale.new_empty(*pairs, outputs, channels)
    images, _, height, width = flat[0].shape
    sums = [images_like((images, outputs, height, width), scale) for _ in range(edges)]
    found = mean, unbiased, means, products, variances, *sums
    read = [scale.contiguous(), *(w.contiguous() for w in kernels), *flat, *features]
    run("normalized_sum", _sizes(kernels, scale, flat[0]), float(eps), read, found)
    return found


def evaluated_sum(
    kernels: Sequence[Tensor],
    scale: Tensor,
    eps: float,
    running: tuple[Tensor, Tensor],
    inputs: Sequence[Tensor],
    features: Sequence[Tensor],
) -> list[Tensor]:
    """The same with means and variances [terms, edges, out_channels] that are known."""
    flat, features = ([side_by_side(x) for x in images] for images in (inputs, features))
    images, _, height, width = flat[0].shape
    shape = images, kernels[0].shape[0], height, width
    sums = [images_like(shape, scale) for _ in range(scale.shape[1])]
    read = [*(t.contiguous() for t in (scale, *running, *kernels)), *flat, *features]
    run("evaluated_sum", _sizes(kernels, scale, flat[0]), float(eps), read, sums)
    return sums


def normalized_sum_gradients(
    kernels: Sequence[Tensor],
    scale: Tensor,
    statistics: tuple[Tensor, Tensor, Tensor],
    eps: float,
    upstream: Sequence[Tensor],
    inputs: Sequence[Tensor],
    features: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Derivatives of the sums; None where nobody asked.

    Args:
        kernels: As before.
        scale: As before.
        statistics: Means of the inputs, products and biased variances.
        eps: As before.
        upstream: Gradients of the sums.
        inputs: As before.
        features: As before; none where their weights are not asked for.
        needs: Who is asked for: weights, each kernel, each input, each summand.

    Returns:
        In the order of `needs`.
    """
    edges = scale.shape[1]
    inputs = [side_by_side(x) for x in inputs]
    upstream = [side_by_side(g) for g in upstream]
    placed = [side_by_side(f) for f in features] or [scale] * (len(scale) - len(kernels) // edges)
    small = [(t, torch.contiguous_format) for t in (scale, *kernels)]
    images = [(t, torch.channels_last) for t in (*inputs, *(upstream[0] for _ in placed))]
    found = [
        torch.empty_like(like, memory_format=layout) if asked else None
        for (like, layout), asked in zip(small + images, needs, strict=True)
    ]
    read = [scale, *kernels, *statistics]
    read = [*(t.contiguous() for t in read), *upstream, *inputs, *placed]
    run("normalized_sum_gradients", _sizes(kernels, scale, inputs[0]), float(eps), read, found)
    return found


def _sizes(kernels: Sequence[Tensor], scale: Tensor, image: Tensor) -> tuple[int, ...]:
    outputs, channels = kernels[0].shape[:2]
    edges = scale.shape[1]
    terms = len(kernels) // edges
    features, pixels = len(scale) - terms, image.numel() // channels
    threads = torch.get_num_threads()
    return scale.itemsize, threads, terms, edges, outputs, channels, features, pixels
