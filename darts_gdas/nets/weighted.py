"""Weighted sums of candidates' outputs, with the norms behind them, in one pass.

A candidate that ends in a norm without affine numbers adds s BN(x) to its edge's sum. Written out,
that is an image for BN(x), another one for its weight, and the sum read and written for each
candidate, forwards and backwards. Here x alone is read, and the sum alone written; derivatives need
x, its means and its deviations.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

import darts_gdas.native as native
from darts_gdas.nets.formats import autocasts
from darts_gdas.nets.functions import apply, without_unreached
from darts_gdas.nets.pooling import written_out
from darts_gdas.nets.statistics import StatisticsUpdate

Images = Float[Tensor, "batch channels height width"]


def weighted_sums(
    scale: Float[Tensor, "summands edges"] | None,
    normed: Sequence[Images],
    features: Sequence[Images],
    *,
    eps: float,
) -> tuple[list[Images], Float[Tensor, "normed channels"], Float[Tensor, "normed channels"]]:
    """Sum over k of scale_k BatchNorm(normed_k) plus scaled features, for each edge.

    To be asked for where `native.takes_weighted` says so.

    Args:
        scale: Weight of each term, then of each feature, on each edge. None is one edge, on which
            all are one.
        normed: Images that their batch normalises: of each edge one for every term, term after
            term.
        features: Summands as they are, the same for all edges.
        eps: Added to the variances.

    Returns:
        The sums, and mean and unbiased variance of the images in `normed`, without derivatives.
    """
    of_ones = scale is None
    if scale is None:
        scale = (*normed, *features)[0].new_ones(len(normed) + len(features), 1)
    terms = len(normed) // scale.shape[1]
    images = *normed, *features
    mean, variance, _, *sums = apply(_WeightedSums, terms, eps, of_ones, scale, *images)
    return sums, mean, variance


def in_one_pass(
    weights: Sequence[Float[Tensor, " edges"]],
    normed: Sequence[tuple[Images, nn.BatchNorm2d]],
    features: Sequence[Images],
    update: StatisticsUpdate,
) -> list[Images] | None:
    """`weighted_sums` where there is a kernel for it; else None.

    Args:
        weights: As there, one after another; none are one edge, on which all are one.
        normed: As there, with their norms: of the batch's statistics, without affine numbers.
        features: As there.
        update: Takes the batch's statistics.
    """
    images, norms = [y for y, _ in normed], [norm for _, norm in normed]
    different, first = {norm.eps for norm in norms} or {0.0}, (*images, *features)[0]
    if len(different) > 1 or autocasts(first.device):
        return None
    if not native.takes_weighted([*images, *features], weights):
        return None
    scale = torch.stack([*weights]) if weights else None
    sums, mean, variance = weighted_sums(scale, images, features, eps=different.pop())
    update.add(norms, mean, variance)
    return sums


class _WeightedSums(torch.autograd.Function):
    """(terms, eps, of_ones, scale, *images) -> `native.WeightedSums`, the sums one by one."""

    @staticmethod
    def forward(
        terms: int, eps: float, of_ones: bool, scale: Tensor, *images: Tensor
    ) -> tuple[Tensor, ...]:
        count = terms * scale.shape[1]
        *statistics, sums = native.weighted_sums(scale, eps, images[:count], images[count:])
        return *statistics, *sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.terms, ctx.eps, ctx.of_ones, *tensors = inputs
        mean, variance, inverse, *_ = output
        ctx.save_for_backward(mean, inverse, *tensors)
        ctx.mark_non_differentiable(mean, variance, inverse)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        mean, inverse, scale, *images = ctx.saved_tensors
        arrived = gradients[3:]
        upstream = [images[0].new_zeros(images[0].shape) if g is None else g for g in arrived]
        again, needs = torch.is_grad_enabled(), ctx.needs_input_grad[3:]
        count = ctx.terms * scale.shape[1]
        run = 1, 1 + count, range(scale.shape[1])
        if not again and native.takes_weighted([*images, *upstream], [scale], (mean, inverse)):
            normed, features = images[:count], images[count:]
            passed = ctx.needs_input_grad[4 + count :] if ctx.of_ones else ()
            asked = [*needs[: len(needs) - len(passed)], *(False for _ in passed)]
            found = native.weighted_sums_gradients(
                scale, (mean, inverse), upstream, normed, features, asked
            )
            for i, needed in enumerate(passed, start=1 + count):  # as they come
                found[i] = upstream[0] if needed else None
            return None, None, None, *without_unreached(found, arrived, run)
        with torch.enable_grad():
            # To be differentiated again: as functions of the inputs, the others beside them.
            tensors = [
                t.view_as(t) if again and needed else t.detach().requires_grad_()
                for t, needed in zip((scale, *images), needs, strict=True)
            ]
            expected = _sums(tensors[0], tensors[1 : 1 + count], tensors[1 + count :], ctx.eps)
        asked = [t for t, needed in zip(tensors, needs, strict=True) if needed]
        reached = iter(torch.autograd.grad(expected, asked, upstream, create_graph=again))
        found = [next(reached) if needed else None for needed in needs]
        return None, None, None, *without_unreached(found, arrived, run)


def _sums(
    scale: Tensor, normed: Sequence[Tensor], features: Sequence[Tensor], eps: float
) -> list[Tensor]:
    """The same by the library, with derivatives of any order."""
    edges = scale.shape[1]
    images = [written_out(x, eps) for x in normed]
    rows = [images[k : k + edges] for k in range(0, len(images), edges)]
    rows += [[feature] * edges for feature in features]
    return [
        torch.stack([weight * row[e] for weight, row in zip(scale[:, e], rows, strict=True)]).sum(0)
        for e in range(edges)
    ]
