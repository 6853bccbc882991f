"""Numbers that tell how a search is going."""

import functools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.nets import Mixture
from darts_gdas.nets.operations import OPERATIONS
from darts_gdas.space import SKIP, CellGenotype, CellSpace, Genotype, SearchSpace
from darts_gdas.space.networks import live_edges


def entropy(probabilities: Float[Tensor, "edges candidates"]) -> float:
    """Mean entropy of the edges' distributions, as a share of the largest possible.

    Rows that are no distributions (independent sigmoids) are divided by their sums.

    Returns:
        1 where every candidate is equally likely, 0 where every edge has decided; absent
        candidates (weight 0) count towards the largest possible.
    """
    totals = probabilities.sum(-1, keepdim=True)
    if bool(((totals - 1).abs() > 1e-4).any()):
        probabilities = probabilities / totals.clamp_min(torch.finfo(totals.dtype).tiny)
    nats = torch.special.entr(probabilities).sum(-1).mean()
    return float(nats) / math.log(max(probabilities.shape[-1], 2))


def skip_share(genotype: Genotype) -> float:
    """Share of a genotype's edges that are skip connections, in [0, 1].

    Differentiable search is known to collapse towards 1: skips train fastest and win early
    (Zela et al., ICLR 2020, https://arxiv.org/abs/1909.09656).
    """
    ops = [edge.op for cell in genotype.cells.values() for node in cell.nodes for edge in node]
    return ops.count(SKIP) / len(ops)


@functools.cache
def is_parameter_free(op: str) -> bool:
    """Whether an operation learns nothing where it keeps the size: skip, pooling, `none`."""
    with torch.random.fork_rng(devices=[]):  # initial weights draw from the global generator
        return not any(p.numel() for p in OPERATIONS[op].build(2, 1, False).parameters())


def parameter_free_share(cell: CellGenotype) -> float:
    """Share of a cell's edges whose operation learns nothing, in [0, 1].

    Example:
        >>> parameter_free_share(Genotype.load("DARTS_V2").cells["normal"])
        0.25
    """
    ops = [edge.op for node in cell.nodes for edge in node]
    return sum(is_parameter_free(op) for op in ops) / len(ops)


def collapse_threshold(space: CellSpace) -> float:
    """The parameter-free share above which a cell of this space counts as collapsed.

    Half way between the share that a uniformly drawn cell has on average and all: 0.71 in the
    DARTS space (6 of 8 edges exceed it), 0.8 in NAS-Bench-201 (5 of 6). The normal cells of
    DARTS, GDAS, PC-DARTS, P-DARTS, DrNAS and TE-NAS stay well below.
    """
    offered = [space.derivable(edge) for edge in range(len(space.edges))]
    shares = [sum(map(is_parameter_free, names)) / len(names) for names in offered]
    return (1 + sum(shares) / len(shares)) / 2


def num_learnt(cell: CellGenotype) -> int:
    """How many edges of a cell add something learnt to its output.

    An edge adds nothing where its operation has no weights, where nothing reaches it, and where
    the output does not depend on it: convolutions behind a `none` train nothing.
    """
    return sum(not is_parameter_free(cell.nodes[node][i].op) for node, i in live_edges(cell))


def has_collapsed(cell: CellGenotype, space: CellSpace) -> bool:
    """Whether more edges of a cell than its threshold allows add nothing learnt to its output.

    The published reduction cell of DARTS_V1 counts as collapsed, and retrains well all the same. A
    cell of one edge never does: its share is 0 or 1 whatever it is, and a chain of blocks is as
    shallow as it skips some of them.
    """
    if len(space.edges) == 1:
        return False
    return 1 - num_learnt(cell) / sum(map(len, cell.nodes)) > collapse_threshold(space)


def is_undecided(mixture: Mixture, space: SearchSpace) -> bool:
    """Whether on every edge each candidate is more than half as likely as any other.

    A candidate's probability over its edge's largest is 1 where they are level and 0 where it is
    out of play; rounding that is the only constant. Under a softmax it is exp(a_i - a_j), which
    knows nothing of the other candidates, so the rule is the same for two as for many. It bounds
    all n >= 2 of them: the smallest probability is above 1 / (2 n - 1) and the largest below
    2 / (n + 1), so a random draw, at 1 / n each, differs from the alphas' by less than a factor of
    two everywhere. (The perplexity in whole candidates, n - 0.5 or more, is right for many alone:
    of two candidates it takes one at 0.86 for undecided.)
    """
    edges = [
        row[: len(names)].double()
        for kind, cell in space.cells.items()
        for row, names in zip(mixture[kind].ops, cell.candidates, strict=True)
        if len(names) > 1
    ]
    return bool(edges) and all(bool(2 * row.min() > row.max()) for row in edges)


def curvature_growth(eigenvalues: Sequence[float], *, window: int) -> float:
    """How flat the loss was before, relative to now: bar(i - k) / bar(i), k the window.

    bar(i) is the mean magnitude over the k values around i, i the latest of which all are known.
    RobustDARTS stops below 0.75: the curvature has then grown by a third within k epochs.

    Args:
        eigenvalues: One per epoch, the latest last; only the last 2 k count.
        window: k; the paper takes 5.

    Returns:
        The ratio; infinity while there are fewer than 2 k values, or where both means are 0.

    Reference:
        Zela et al., ICLR 2020, https://arxiv.org/abs/1909.09656, section 4.3.
    """
    if len(eigenvalues) < 2 * window:
        return math.inf
    magnitudes = [abs(value) for value in eigenvalues[-2 * window :]]
    before, now = sum(magnitudes[:window]), sum(magnitudes[window:])
    return before / now if now > 0 else math.inf
