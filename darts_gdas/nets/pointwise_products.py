"""What a normalised sum and its gradients are made of, by PyTorch's own operations."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.nets.formats import channels_last
from darts_gdas.nets.pixels import products_of, rows_of, wide


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


def gradients_of(
    summands: Summands,
    scale: Tensor,
    known: tuple[Tensor, Tensor, Tensor] | None,
    eps: float,
    upstream: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Derivatives of the sums; None where nobody asked.

    Args:
        summands: What was summed; no features where their weights are not asked for.
        scale: Weights [terms + features, edges].
        known: What `statistics_of` returned; None where the derivatives are to be differentiated.
        eps: Added to the variances.
        upstream: Gradients of the sums, part by part.
        needs: Who is asked for: weights, each kernel, each input, each summand.

    Returns:
        In the order of `needs`.
    """
    parts = [channels_last(g) for g in upstream]
    kernels, flat, features = summands
    terms = len(kernels) // scale.shape[1]
    pointwise, inputs = stacked(kernels, terms), nested(flat, terms)
    means, products, variance = known or statistics_of(inputs, pointwise)
    inverse = (variance + eps).rsqrt()
    weight = scale[:terms, :, None] * inverse
    total, outer = correlations(parts, inputs, pointwise)
    outer = outer - total[..., None] * means[:, :, None]  # dL/dV
    inner = (outer * pointwise).sum(-1)
    slope = weight * inverse.square() * inner  # -2 dL/dvar

    needs_scale, *needs = needs
    found: list[Tensor | None] = [None] * len(needs)
    inputs_from, features_from = len(kernels), len(kernels) + len(flat)
    if any(needs[:inputs_from]):
        of_pointwise = weight[..., None] * outer - slope[..., None] * products
        pairs = zip(of_pointwise.flatten(0, 1), kernels, strict=True)
        found[:inputs_from] = [d.view_as(kernel) for d, kernel in pairs]
    if any(needs[inputs_from:features_from]):
        pixels = flat[0].numel() // flat[0].shape[1]
        moved = weight[..., None] * pointwise
        curvature = pointwise.mT @ (slope[..., None] * pointwise) / -pixels
        bias = total[:, None] @ moved / -pixels - means[:, :, None] @ curvature
        found[inputs_from:features_from] = [
            d
            for k, term in enumerate(inputs)
            for d in affine_sums(bias[k, :, 0], [moved[k].mT, curvature[k]], [parts, term])
        ]
    for i, factors in enumerate(scale[terms:], features_from):
        found[i] = weighted_total(parts, factors) if needs[i] else None
    of_scale = None
    if needs_scale:
        of_scale = torch.cat([(inner * inverse).sum(-1), *inner_products(parts, features)])
    return [of_scale, *found]


def stacked(kernels: Sequence[Tensor], terms: int) -> Float[Tensor, "terms edges out in"]:
    """All kernels as matrices, from one list."""
    return torch.stack([kernel.flatten(1) for kernel in kernels]).unflatten(0, (terms, -1))


def statistics_of(
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


def correlations(
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


def affine_sums(
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


def inner_products(
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


def weighted_total(gradients: Sequence[Tensor], scale: Float[Tensor, " edges"]) -> Tensor:
    """Sum over edges of scale * gradient: what reaches a feature that all of them share."""
    channels = sum(g.shape[1] for g in gradients) // len(scale)
    images = [image for g in gradients for image in g.split(channels, dim=1)]
    add = torch.addcmul if torch.is_grad_enabled() else Tensor.addcmul_
    factors = scale.to(images[0].dtype)
    total = images[0] * factors[0]
    for image, factor in zip(images[1:], factors[1:], strict=True):
        total = add(total, image, factor)
    return total


def nested(flat: Sequence[Tensor], terms: int) -> list[Sequence[Tensor]]:
    """[terms][parts] from one list."""
    parts = len(flat) // terms
    return [flat[k * parts : (k + 1) * parts] for k in range(terms)]
