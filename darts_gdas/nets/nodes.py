"""What the nodes of a cell add up."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

import darts_gdas.native as native
from darts_gdas.nets.formats import autocasts
from darts_gdas.nets.pooling import normalized
from darts_gdas.nets.statistics import StatisticsUpdate
from darts_gdas.nets.weighted import weighted_sums

Images = Float[Tensor, "batch channels height width"]


class Summand(NamedTuple):
    """What an edge adds to the node that it leads to: weight norm(images).

    Attributes:
        images: As they leave the edge.
        weight: A number; None is one.
        norm: A norm that takes the batch's statistics and has no affine numbers; None is none.
    """

    images: Images
    weight: Float[Tensor, ""] | None = None
    norm: nn.BatchNorm2d | None = None


def total(summands: Sequence[Summand], update: StatisticsUpdate) -> Images:
    """The sum, in one pass over all images if there is a kernel for it and something to gain.

    Args:
        summands: At least one.
        update: Takes the batch's statistics.
    """
    found = _in_one_pass(summands, update)
    if found is not None:
        return found
    first, *others = [_written_out(summand, update) for summand in summands]
    if not others:
        return first
    so_far = first + others[0]
    for images in others[1:]:
        so_far += images  # nobody else has it
    return so_far


def _in_one_pass(summands: Sequence[Summand], update: StatisticsUpdate) -> Images | None:
    ordered = sorted(summands, key=lambda summand: summand.norm is None)
    norms = [s.norm for s in ordered if s.norm is not None]
    images, weights = [s.images for s in ordered], [s.weight for s in ordered]
    known = [weight for weight in weights if weight is not None]
    if not known and (not norms or len(images) == 1):
        return None  # an addition is as good, and so is the norm's own kernel
    different = {norm.eps for norm in norms} or {0.0}
    if len(different) > 1 or autocasts(images[0].device):
        return None
    if not native.takes_weighted(images, known):
        return None
    scale = None
    if known:
        one = known[0].new_ones(())
        scale = torch.stack([one if weight is None else weight for weight in weights])[:, None]
    terms, features = images[: len(norms)], images[len(norms) :]
    (found,), mean, variance = weighted_sums(scale, terms, features, eps=different.pop())
    update.add(norms, mean, variance)
    return found


def _written_out(summand: Summand, update: StatisticsUpdate) -> Images:
    y = summand.images
    if summand.norm is not None:
        y = normalized(y, summand.norm, update)
    return y if summand.weight is None else summand.weight * y
