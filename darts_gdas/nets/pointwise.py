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
from darts_gdas.nets.formats import channels_last, without_autocast
from darts_gdas.nets.functions import apply
from darts_gdas.nets.pixels import products_of, rows_of, wide

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
        takes = native.takes_sums(kernels, scale, flat, features, running)
        if takes and not torch.is_grad_enabled():
            return native.evaluated_sum(kernels, scale, eps, running, flat, features), None
        inverse = (running.variance + eps).rsqrt() * scale[:terms, :, None]
        bias = -(inverse * running.mean).sum(0)
        matrices = inverse[..., None] * _matrices(kernels, terms)
        return _affine_sums(bias, matrices, inputs, scale, features), None
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


class Summands(NamedTuple):
    """What is summed, one after the other; the first two term after term."""

    kernels: Sequence[Tensor]
    inputs: Sequence[Tensor]
    features: Sequence[Tensor]

    @classmethod
    def of(cls, tensors: Sequence[Tensor], kernels: int, features: int) -> "Summands":
        """From all of them in a row, with so many of the first and of the last."""
        end = len(tensors) - features
        return cls(tensors[:kernels], tensors[kernels:end], tensors[end:])


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
        pointwise, inputs = _matrices(kernels, terms), _nested(flat, terms)
        means, products, variance = _statistics(inputs, pointwise)
        weight = (variance + eps).rsqrt() * scale[:terms, :, None]
        matrices = weight[..., None] * pointwise
        bias = -(matrices @ means[..., None]).squeeze(-1).sum(0)
        sums = _affine_sums(bias, matrices, inputs, scale, features)
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
        terms, (_, _, needs_scale, *needs) = ctx.terms, ctx.needs_input_grad
        kernels, flat, features = Summands.of(
            tensors, terms * scale.shape[1], len(scale) - terms if needs_scale else 0
        )
        shapes = zip(gradients[_KEPT:], ctx.shapes, strict=True)
        parts = [flat[0].new_zeros(shape) if g is None else g for g, shape in shapes]
        others, statistics = (*features, *parts), (means, products, variance)
        takes = native.takes_sums(kernels, scale, flat, others, statistics)
        if takes and not torch.is_grad_enabled():
            asked = needs_scale, *needs
            d = native.normalized_sum_gradients(
                kernels, scale, statistics, ctx.eps, parts, flat, features, asked
            )
            return None, None, *d
        parts = [channels_last(g) for g in parts]
        pointwise, inputs = _matrices(kernels, terms), _nested(flat, terms)
        if torch.is_grad_enabled():  # to be differentiated again: as functions of the inputs
            means, products, variance = _statistics(inputs, pointwise)
        inverse = (variance + ctx.eps).rsqrt()
        weight = scale[:terms, :, None] * inverse
        total, outer = _correlations(parts, inputs, pointwise)
        outer = outer - total[..., None] * means[:, :, None]  # dL/dV
        inner = (outer * pointwise).sum(-1)
        slope = weight * inverse.square() * inner  # -2 dL/dvar

        found: list[Tensor | None] = []
        if any(needs[: len(kernels)]):
            of_pointwise = weight[..., None] * outer - slope[..., None] * products
            found += [
                d.view_as(kernel)
                for d, kernel in zip(of_pointwise.flatten(0, 1), kernels, strict=True)
            ]
        else:
            found += [None] * len(kernels)
        if any(needs[len(kernels) : len(kernels) + len(flat)]):
            pixels = flat[0].numel() // flat[0].shape[1]
            matrices = weight[..., None] * pointwise
            curvature = pointwise.mT @ (slope[..., None] * pointwise) / -pixels
            bias = total[:, None] @ matrices / -pixels - means[:, :, None] @ curvature
            for k, term in enumerate(inputs):
                pair = [matrices[k].mT, curvature[k]]
                found += _affine_sums(bias[k, :, 0], pair, [parts, term])
        else:
            found += [None] * len(flat)
        for needed, factors in zip(needs[len(found) :], scale[terms:], strict=True):
            found.append(_weighted_total(parts, factors) if needed else None)
        of_scale = None
        if needs_scale:
            of_scale = torch.cat([(inner * inverse).sum(-1), *_inner_products(parts, features)])
        return None, None, of_scale, *found


def _matrices(kernels: Sequence[Kernel], terms: int) -> Float[Tensor, "terms edges out in"]:
    return torch.stack([kernel.flatten(1) for kernel in kernels]).unflatten(0, (terms, -1))


def _statistics(
    inputs: Sequence[Sequence[Tensor]], pointwise: Tensor
) -> tuple[Float[Tensor, "k e c"], Float[Tensor, "k e o c"], Float[Tensor, "k e o"]]:
    """Means of the inputs, pointwise @ covariance, and the variances of the outputs."""
    terms, edges, _, channels = pointwise.shape
    rows = [wide(rows_of(part, channels)) for term in inputs for part in term]
    pixels = rows[0].shape[1]
    means = (torch.cat([z.sum(1) for z in rows]) / pixels).view(terms, edges, channels)
    second = torch.cat([products_of(z, z) for z in rows]).view(terms, edges, channels, channels)
    covariance = second / pixels - means[..., None] * means[..., None, :]
    products = pointwise @ covariance
    return means, products, (products * pointwise).sum(-1).clamp_min(0)


def _correlations(
    gradients: Sequence[Tensor], inputs: Sequence[Sequence[Tensor]], pointwise: Tensor
) -> tuple[Float[Tensor, "e o"], Float[Tensor, "k e o c"]]:
    """Sum over pixels of the gradients, and of their products with the inputs."""
    _, _, outputs, channels = pointwise.shape
    g = [wide(rows_of(part, outputs)) for part in gradients]
    products = [
        products_of(rows, wide(rows_of(part, channels)))
        for term in inputs
        for rows, part in zip(g, term, strict=True)
    ]
    return torch.cat([rows.sum(1) for rows in g]), torch.cat(products).view_as(pointwise)


def _affine_sums(
    bias: Float[Tensor, "edges out"],
    matrices: Sequence[Float[Tensor, "edges out _"]] | Tensor,
    inputs: Sequence[Sequence[Tensor]],
    scale: Tensor | None = None,
    features: Sequence[Tensor] = (),
) -> list[Tensor]:
    """Bias plus sum over k of matrices_k @ inputs_k plus scaled features, part by part."""
    dtype = inputs[0][0].dtype
    factors = () if scale is None else scale[len(matrices) :, :, None, None].to(dtype)
    transposed = [matrix.mT.to(dtype) for matrix in matrices]
    bias = bias[:, None].to(dtype)
    sums, start = [], 0
    for parts in zip(*inputs, strict=True):
        rows = [rows_of(x, m.shape[1]) for x, m in zip(parts, transposed, strict=True)]
        here = slice(start, start + len(rows[0]))
        start = here.stop
        batch, _, height, width = parts[0].shape
        if torch.is_grad_enabled():
            y = bias[here]
            for z, matrix in zip(rows, transposed, strict=True):
                y = y + torch.bmm(z, matrix[here])
            for f, factor in zip(features, factors, strict=True):
                y = y + factor[here] * rows_of(f, bias.shape[2])
            y = y.transpose(0, 1).reshape(batch, height, width, -1).permute(0, 3, 1, 2)
            sums.append(y)
            continue
        shape = (batch, len(rows[0]) * bias.shape[2], height, width)
        image = torch.empty(
            shape, dtype=dtype, device=bias.device, memory_format=torch.channels_last
        )
        y = rows_of(image, bias.shape[2])
        y.copy_(bias[here])
        for z, matrix in zip(rows, transposed, strict=True):
            y.baddbmm_(z, matrix[here])
        for f, factor in zip(features, factors, strict=True):
            y.addcmul_(rows_of(f, bias.shape[2]).to(dtype), factor[here])
        sums.append(image)
    return sums


def _inner_products(
    gradients: Sequence[Tensor], features: Sequence[Tensor]
) -> list[Float[Tensor, "1 edges"]]:
    """<gradient, feature> of every edge with every feature."""
    found = []
    for f in features:
        channels = f.shape[1]
        column = wide(rows_of(f, channels)).flatten(1)[:, :, None]
        rows = [wide(rows_of(g, channels)).flatten(1)[:, None] for g in gradients]
        products = [torch.bmm(g, column.expand(len(g), -1, -1)) for g in rows]
        found.append(torch.cat(products).flatten()[None])
    return found


def _weighted_total(gradients: Sequence[Tensor], scale: Float[Tensor, " edges"]) -> Tensor:
    """Sum over edges of scale * gradient: what reaches a feature that all of them share."""
    channels = sum(g.shape[1] for g in gradients) // len(scale)
    images = [image for g in gradients for image in g.split(channels, dim=1)]
    add = torch.addcmul if torch.is_grad_enabled() else Tensor.addcmul_
    factors = scale.to(images[0].dtype)
    total = images[0] * factors[0]
    for image, factor in zip(images[1:], factors[1:], strict=True):
        total = add(total, image, factor)
    return total


def _nested(flat: Sequence[Tensor], terms: int) -> list[Sequence[Tensor]]:
    """[terms][parts] from one list."""
    parts = len(flat) // terms
    return [flat[k * parts : (k + 1) * parts] for k in range(terms)]
