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

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

import darts_gdas.native as native
from darts_gdas.nets.formats import channels_last, without_autocast
from darts_gdas.nets.pixels import products_of, rows_of, wide

Part = Float[Tensor, "batch _edges_x_channels height width"]


class Moments(NamedTuple):
    """Mean and biased variance of the output channels of every term on every edge."""

    mean: Float[Tensor, "terms edges out_channels"]
    variance: Float[Tensor, "terms edges out_channels"]


def normalized_sum(
    inputs: Sequence[Sequence[Part]],
    pointwise: Float[Tensor, "terms edges out_channels channels"],
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
        pointwise: Matrix of each term on each edge.
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
    if running is not None:
        inverse = (running.variance + eps).rsqrt() * scale[:terms, :, None]
        bias = -(inverse * running.mean).sum(0)
        return _affine_sums(bias, inverse[..., None] * pointwise, inputs, scale, features), None
    first = inputs[0][0]
    if first.numel() == first.shape[1]:
        raise ValueError(
            "batch statistics need more than one value per channel, got images of shape "
            f"{tuple(first.shape)}; use a larger batch or larger images"
        )
    flat = [part for term in inputs for part in term]
    with without_autocast(first.device):  # number formats are chosen here
        # Without what makes it differentiable where nobody asks: a compiler cannot trace that.
        run = _NormalizedSum.apply if torch.is_grad_enabled() else _NormalizedSum.forward
        means, _, variance, *sums = run(pointwise, scale, eps, *flat, *features)
        mean = (pointwise.detach() @ means[..., None]).squeeze(-1)
    return sums, Moments(mean, variance)


class _NormalizedSum(torch.autograd.Function):
    """The module's formula in batch statistics, with its derivative written out.

    Returns the means m, the products P S and the variances, without derivatives, then the sums.
    """

    @staticmethod
    def forward(
        pointwise: Tensor, scale: Tensor, eps: float, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        num_inputs = len(tensors) - (len(scale) - len(pointwise))
        inputs, features = _nested(tensors[:num_inputs], len(pointwise)), tensors[num_inputs:]
        if native.takes_sums(pointwise, scale, tensors[:num_inputs], features):
            *found, sums = native.normalized_sum(pointwise, scale, eps, inputs, features)
            return *found, *sums
        means, products, variance = _statistics(inputs, pointwise)
        weight = (variance + eps).rsqrt() * scale[: len(pointwise), :, None]
        matrices = weight[..., None] * pointwise
        bias = -(matrices @ means[..., None]).squeeze(-1).sum(0)
        sums = _affine_sums(bias, matrices, inputs, scale, features)
        return means, products, variance, *sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        pointwise, scale, ctx.eps, *tensors = inputs
        ctx.num_inputs = len(tensors) - (len(scale) - len(pointwise))
        if not ctx.needs_input_grad[1]:  # then nothing depends on the features' values
            del tensors[ctx.num_inputs :]
        ctx.save_for_backward(pointwise, scale, *output[:3], *tensors)
        ctx.mark_non_differentiable(*output[:3])
        ctx.set_materialize_grads(False)
        ctx.shapes = [y.shape for y in output[3:]]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        pointwise, scale, means, products, variance, *tensors = ctx.saved_tensors
        terms, num_inputs = len(pointwise), ctx.num_inputs
        inputs, features = _nested(tensors[:num_inputs], terms), tensors[num_inputs:]
        if torch.is_grad_enabled():  # to be differentiated again: as functions of the inputs
            means, products, variance = _statistics(inputs, pointwise)
        parts = [
            channels_last(inputs[0][0].new_zeros(shape) if g is None else g)
            for g, shape in zip(gradients[3:], ctx.shapes, strict=True)
        ]
        images = tensors[:num_inputs], (*features, *parts)
        if not torch.is_grad_enabled() and native.takes_sums(pointwise, scale, *images):
            kept = pointwise, scale, means, products, variance
            needs = [asked for i, asked in enumerate(ctx.needs_input_grad) if i != 2]  # no eps
            flat = tensors[:num_inputs], features
            d = native.normalized_sum_gradients(kept, ctx.eps, parts, *flat, needs)
            return d.pointwise, d.scale, None, *d.inputs, *d.features
        inverse = (variance + ctx.eps).rsqrt()
        weight = scale[:terms, :, None] * inverse
        total, outer = _correlations(parts, inputs, pointwise)
        outer = outer - total[..., None] * means[:, :, None]  # dL/dV
        inner = (outer * pointwise).sum(-1)
        slope = weight * inverse.square() * inner  # -2 dL/dvar

        found: list[Tensor | None] = [None] * len(ctx.needs_input_grad)
        if ctx.needs_input_grad[0]:
            found[0] = weight[..., None] * outer - slope[..., None] * products
        if ctx.needs_input_grad[1]:
            found[1] = torch.cat([(inner * inverse).sum(-1), *_inner_products(parts, features)])
        if any(ctx.needs_input_grad[3 : 3 + num_inputs]):
            pixels = inputs[0][0].numel() // inputs[0][0].shape[1]
            matrices = weight[..., None] * pointwise
            curvature = pointwise.mT @ (slope[..., None] * pointwise) / -pixels
            bias = total[:, None] @ matrices / -pixels - means[:, :, None] @ curvature
            for k, term in enumerate(inputs):
                pair = [matrices[k].mT, curvature[k]]
                start = 3 + k * len(term)
                found[start : start + len(term)] = _affine_sums(bias[k, :, 0], pair, [parts, term])
        for j in range(len(scale) - terms):
            if ctx.needs_input_grad[3 + num_inputs + j]:
                found[3 + num_inputs + j] = _weighted_total(parts, scale[terms + j])
        return tuple(found)


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
