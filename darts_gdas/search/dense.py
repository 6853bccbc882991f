"""Relaxations in which every candidate runs: concrete, sigmoid and Dirichlet weights."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from darts_gdas.search.relaxation import (
    Linear,
    PerEdge,
    Relaxation,
    Relaxed,
    check_temperature,
    noisy_logits,
)

SMALLEST_CONCENTRATION = 0.01
"""The smallest concentration that is drawn from: at less, all gammas of an edge could underflow."""


@dataclass
class Concrete(Relaxation):
    """Every candidate, weighted by a tempered softmax over noisy logits (SNAS).

    w = softmax((log_softmax(a) + g) / tau), g Gumbel noise: a sample of the concrete distribution,
    one-hot in the limit of a small temperature. All candidates run, so the gradient
    dw_i/da_j = w_i (delta_ij - w_j) / tau flows through each of them; compare `GumbelHard`.

    Attributes:
        tau: Softmax temperature over progress. The authors' code anneals 1 to 0.03, linearly.

    Reference:
        Xie et al., ICLR 2019, https://arxiv.org/abs/1812.09926.
    """

    has_softmax: ClassVar[bool] = True
    tau: Linear = field(default_factory=lambda: Linear(1.0, 0.03))

    def __post_init__(self) -> None:
        check_temperature(self.tau)

    def relax(self, logits: PerEdge, *, progress: float, rng: Generator | None) -> Relaxed:
        """A distribution per edge, the sharper the lower the temperature."""
        return (noisy_logits(logits, rng) / self.tau(progress)).softmax(-1), None

    def expectation(self, logits: PerEdge) -> PerEdge:
        """P(candidate has the largest weight) = softmax(logits), at any temperature.

        The weights' own mean has no closed form; it tends to this as the temperature falls.
        """
        return logits.softmax(-1)


@dataclass
class Sigmoid(Relaxation):
    """Every candidate, weighted by its own sigmoid: candidates do not compete (FairDARTS).

    One candidate's gain is not another's loss, so a skip connection that trains fast does not
    starve the rest. `none` adds nothing and takes weight from nobody: it has no influence here.
    Rows need not sum to 1. Wants the penalty `ZeroOne`, without which few weights decide.

    The authors keep, of the two strongest edges of each node, those whose largest sigmoid exceeds
    0.85, so that a cell may be thinner than DARTS's. `ArgMax` has no threshold: it keeps the two.

    Reference:
        Chu et al., ECCV 2020, https://arxiv.org/abs/1911.12126.
    """

    def relax(self, logits: PerEdge, *, progress: float, rng: Generator | None) -> Relaxed:
        """Each candidate's sigmoid, 0 for an absent one; no noise, no progress."""
        return logits.sigmoid(), None

    def expectation(self, logits: PerEdge) -> PerEdge:
        """The sigmoids themselves: numbers in [0, 1], no distribution."""
        return logits.sigmoid()


@dataclass
class Dirichlet(Relaxation):
    """Every candidate, weighted by a sample of a Dirichlet distribution (DrNAS).

    The concentrations are elu(a) + 1. The sample is a set of gamma variates over their sum, drawn
    on the CPU in float64 as a function of `rng` and the alphas; its gradient is the pathwise one,
    d sample / d concentration at fixed uniform noise (implicit reparametrisation). Concentrations
    below 0.01 draw as if they were 0.01. One transfer to the host per mixture.

    Reference:
        Chen et al., ICLR 2021, https://arxiv.org/abs/2006.10355.
    """

    def relax(self, logits: PerEdge, *, progress: float, rng: Generator | None) -> Relaxed:
        """A distribution per edge; without noise its mean."""
        if rng is None:
            return self.expectation(logits), None
        on_host = logits.to("cpu", torch.float64)
        absent = on_host == -torch.inf
        concentrations = log_concentration(on_host).exp().clamp(min=SMALLEST_CONCENTRATION)
        gammas = torch.ops.aten._standard_gamma(concentrations, generator=rng).masked_fill(
            absent, 0.0
        )
        return (gammas / gammas.sum(-1, keepdim=True)).to(logits), None

    def expectation(self, logits: PerEdge) -> PerEdge:
        """The Dirichlet mean: concentrations over their sum."""
        return log_concentration(logits).softmax(-1)


def log_concentration(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(elu(a) + 1), which is `a` itself below zero: no rounding however small."""
    return torch.where(logits > 0, logits.clamp(min=0).log1p(), logits)
