"""Weighted sums of batch-normalised pointwise convolutions, without forming the summands.

A pointwise convolution P is linear, so batch norm needs nothing of P z but its mean and variance,
and these follow from the mean m and the covariance S of z:

    mean(P z) = P m,    var(P z)_o = p_o S p_o^T    (p_o: row o of P).

Hence a weighted sum over candidate operations k is a single affine map of their inputs,

    sum_k s_k BN(P_k z_k) = sum_k V_k (z_k - m_k),    row o of V_k = s_k p_o / sqrt(var_o + eps):

one product with a small matrix per candidate, accumulated in place. Neither P z nor its
normalised form nor the summands are written to memory or kept for the backward pass, which needs
z alone. The function is that of `nn.Conv2d` and `nn.BatchNorm2d`; statistics and reductions are
computed in float32 or wider.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

import darts_gdas.native as native
from darts_gdas.nets.formats import without_autocast
from darts_gdas.nets.functions import apply, without_unreached
from darts_gdas.nets.pointwise_products import (
    Summands,
    affine_sums,
    gradients_of,
    nested,
    stacked,
    statistics_of,
)

Part = Float[Tensor, "batch _edges_x_channels height width"]
Kernel = Float[Tensor, "out_channels channels *ones"]


class Moments(NamedTuple):
    """Mean and unbiased variance of the output channels of every term on every edge."""

    mean: Float[Tensor, "terms edges out_channels"]
    variance: Float[Tensor, "terms edges out_channels"]


def normalized_sum(
    inputs: Sequence[Sequence[Part]],
    pointwise: Iterable[Iterable[Kernel]],
    scale: Float[Tensor, "summands edges"],
    *,
    features: Sequence[Float[Tensor, "batch out_channels out_height out_width"]] = (),
    eps: float,
    running: Moments | None = None,
) -> tuple[list[Float[Tensor, "batch _edges_x_out_channels height width"]], Moments | None]:
    """Sum over k of scale_k * BatchNorm(pointwise_k @ inputs_k), plus scaled features.

    Several edges are computed at once. A part holds one of them or, with their channels side by
    side, several; all terms are cut into the same parts, and so is the result.

    Args:
        inputs: The parts of each term.
        pointwise: Kernel of each term on each edge.
        scale: Weight of each term, then of each feature, on each edge.
        features: Summands that are ready, the same for all edges.
        eps: Added to the variances.
        running: Statistics to normalise with (evaluation); None takes those of the batch.

    Returns:
        The sums, part by part, and the statistics of the batch where it took them.

    Raises:
        ValueError: If the batch has one value per channel, which has no variance.
    """
    terms = len(inputs)
    kernels = [kernel for term in pointwise for kernel in term]
    flat = [part for term in inputs for part in term]
    if running is not None:
        if not torch.is_grad_enabled() and native.takes_sums(
            kernels, scale, flat, features, running
        ):
            return native.evaluated_sum(kernels, scale, eps, running, flat, features), None
        inverse = (running.variance + eps).rsqrt() * scale[:terms, :, None]
        bias = -(inverse * running.mean).sum(0)
        matrices = inverse[..., None] * stacked(kernels, terms)
        return affine_sums(bias, matrices, inputs, scale, features), None
    first = inputs[0][0]
    if first.numel() == first.shape[1]:
        raise ValueError(
            "batch statistics need more than one value per channel, got images of shape "
            f"{tuple(first.shape)}; use a larger batch or larger images"
        )
    with without_autocast(first.device):  # number formats are chosen here
        found = apply(_NormalizedSum, terms, eps, scale, *kernels, *flat, *features)
    (mean, variance), sums = found[:2], list(found[_KEPT:])
    return sums, Moments(mean, variance)


_KEPT = 5
"""So many things that are no sums come before them."""


class _NormalizedSum(torch.autograd.Function):
    """The module's formula in batch statistics, with its derivative written out.

    Returns, without derivatives, what `Moments` holds, the means m, the products P S and the
    biased variances, then the sums.
    """

    @staticmethod
    def forward(terms: int, eps: float, scale: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        kernels, flat, features = Summands.of(tensors, terms * scale.shape[1], len(scale) - terms)
        if native.takes_sums(kernels, scale, flat, features):
            return native.normalized_sum(kernels, scale, eps, flat, features)
        pointwise, inputs = stacked(kernels, terms), nested(flat, terms)
        means, products, variance = statistics_of(inputs, pointwise)
        weight = (variance + eps).rsqrt() * scale[:terms, :, None]
        matrices = weight[..., None] * pointwise
        bias = -(matrices @ means[..., None]).squeeze(-1).sum(0)
        sums = affine_sums(bias, matrices, inputs, scale, features)
        pixels = flat[0].numel() // flat[0].shape[1]
        mean = (pointwise @ means[..., None]).squeeze(-1)
        return mean, variance * (pixels / (pixels - 1)), means, products, variance, *sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.terms, ctx.eps, scale, *tensors = inputs
        if not ctx.needs_input_grad[2]:  # then nothing depends on the features' values
            del tensors[len(tensors) - (len(scale) - ctx.terms) :]
        ctx.save_for_backward(scale, *output[2:_KEPT], *tensors)
        ctx.mark_non_differentiable(*output[:_KEPT])
        ctx.set_materialize_grads(False)
        ctx.shapes = [y.shape for y in output[_KEPT:]]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        scale, means, products, variance, *tensors = ctx.saved_tensors
        num_features = len(scale) - ctx.terms if ctx.needs_input_grad[2] else 0
        kernels, flat, features = Summands.of(tensors, ctx.terms * scale.shape[1], num_features)
        arrived = gradients[_KEPT:]
        shapes = zip(arrived, ctx.shapes, strict=True)
        parts = [flat[0].new_zeros(shape) if g is None else g for g, shape in shapes]
        others, statistics = (*features, *parts), (means, products, variance)
        asked, again = ctx.needs_input_grad[2:], torch.is_grad_enabled()
        if not again and native.takes_sums(kernels, scale, flat, others, statistics):
            d = native.normalized_sum_gradients(
                kernels, scale, statistics, ctx.eps, parts, flat, features, asked
            )
        else:
            # To be differentiated again they are functions of the inputs.
            summands, known = Summands(kernels, flat, features), None if again else statistics
            d = gradients_of(summands, scale, known, ctx.eps, parts, asked)
        places, channels, end = range(len(parts)), kernels[0].shape[1], 1 + len(kernels)
        edges = [p for p in places for _ in range(flat[p].shape[1] // channels)]
        runs = (1, end, edges), (end, end + len(flat), places)
        return None, None, *without_unreached(d, arrived, *runs)
