"""What the nodes of a cell add up."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.nets.pooling import normalized
from darts_gdas.nets.statistics import StatisticsUpdate
from darts_gdas.nets.weighted import in_one_pass

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
    normed = [(s.images, s.norm) for s in summands if s.norm is not None]
    if any(s.weight is not None for s in summands) or (normed and len(summands) > 1):
        ordered = sorted(summands, key=lambda summand: summand.norm is None)
        features = [s.images for s in summands if s.norm is None]
        found = in_one_pass(_weights(ordered), normed, features, update)
        if found is not None:
            return found[0]
    # Elsewhere an addition is as good, and so is the norm's own kernel.
    first, *others = [_written_out(summand, update) for summand in summands]
    if not others:
        return first
    so_far = first + others[0]
    for images in others[1:]:
        so_far += images  # nobody else has it
    return so_far


def _weights(summands: Sequence[Summand]) -> list[Float[Tensor, " edge"]]:
    """Of all; none where all are one."""
    known = [s.weight for s in summands if s.weight is not None]
    if not known:
        return []
    return [known[0].new_ones(1) if s.weight is None else s.weight[None] for s in summands]


def _written_out(summand: Summand, update: StatisticsUpdate) -> Images:
    y = summand.images
    if summand.norm is not None:
        y = normalized(y, summand.norm, update)
    return y if summand.weight is None else summand.weight * y
