"""Sampling without learning: the relaxation of random search with weight sharing."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator

from darts_gdas.search.relaxation import PerEdge, Relaxation, Relaxed


@dataclass
class Uniform(Relaxation):
    """One candidate per edge, all equally likely: a random path, whatever the alphas say.

    The baseline that every search has to beat. The mixture depends on no alpha, so there is
    nothing to step (`order=weights_only`), and its mean says nothing about which cell is best:
    that is asked of the trained weights (`discretizer=best_of_samples`). `none` is drawn like
    any other. Without noise it is the mean over all paths.

    Reference:
        Li and Talwalkar, UAI 2019, https://arxiv.org/abs/1902.07638, section 3.
    """

    def relax(self, logits: PerEdge, *, progress: float, rng: Generator | None) -> Relaxed:
        """A one-hot row per edge, drawn on the host; one transfer tells what each edge has."""
        if rng is None:
            return self.expectation(logits), None
        counts = torch.isfinite(logits).sum(-1).cpu()
        drawn = torch.rand(len(logits), generator=rng, dtype=torch.float64)
        chosen = (drawn * counts).long()  # absent candidates come last
        return F.one_hot(chosen, logits.shape[-1]).to(logits), tuple(chosen.tolist())

    def expectation(self, logits: PerEdge) -> PerEdge:
        """The same weight for each candidate that an edge has."""
        present = torch.isfinite(logits).to(logits.dtype)
        return present / present.sum(-1, keepdim=True)
