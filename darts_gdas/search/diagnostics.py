"""Numbers that tell how a search is going."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.space import Genotype


def entropy(probabilities: Float[Tensor, "edges candidates"]) -> float:
    """Mean entropy of the edges' distributions, as a share of the largest possible.

    Returns:
        1 where every candidate is equally likely, 0 where every edge has decided; absent
        candidates (weight 0) count towards the largest possible.
    """
    nats = torch.special.entr(probabilities).sum(-1).mean()
    return float(nats) / math.log(max(probabilities.shape[-1], 2))


def skip_share(genotype: Genotype) -> float:
    """Share of a genotype's edges that are skip connections, in [0, 1].

    Differentiable search is known to collapse towards 1: skips train fastest and win early
    (Zela et al., ICLR 2020, https://arxiv.org/abs/1909.09656).
    """
    ops = [edge.op for cell in genotype.cells.values() for node in cell.nodes for edge in node]
    return ops.count("skip_connect") / len(ops)
