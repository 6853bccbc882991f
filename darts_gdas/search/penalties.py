"""Penalties: what the alphas are pressed towards, besides a small validation loss."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.nets import Layout, Mixture
from darts_gdas.search.dense import Dirichlet, log_concentration
from darts_gdas.search.relaxation import ArchParameters, Linear, Relaxation, check_strength
from darts_gdas.space import Genotype, SearchSpace


@dataclass(frozen=True)
class Surroundings:
    """What a penalty acts in, known once the data has been loaded.

    Attributes:
        space: The cells.
        layout: The supernet around them.
        image_size: Height and width.
        device: This run's device.
        told: Is told what takes long, how much of it is done, and how much there is.
        skip_limits: By kind, how many skip connections the discretizer leaves a cell at most.
    """

    space: SearchSpace
    layout: Layout
    image_size: tuple[int, int]
    device: torch.device
    told: Callable[[str, int, int], None] = lambda phase, done, total: None
    skip_limits: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Penalty(ABC):
    """A number that the arch step makes small along with the validation loss.

    Its gradient is added to the alphas' in the same backward call; it never reaches a weight. The
    name that it is registered by is that of its settings and of its curve.

    Attributes:
        needs_whole_space: Whether it asks of all cells what those of a smaller space may not meet,
            and a selection must ask of them.
    """

    needs_whole_space: ClassVar[bool] = False

    def fits(self, relaxation: Relaxation) -> str | None:
        """Why it has no meaning under a relaxation; None where it has one."""
        return None

    def build(self, surroundings: Surroundings) -> "Penalty":
        """The penalty that the search uses, with what it needs of its surroundings."""
        return self

    def curves(self, mixture: Mixture) -> dict[str, float]:
        """Numbers worth a curve after each epoch, by name, of the expected mixture."""
        return {}

    def found(self, genotype: Genotype) -> dict[str, Any] | None:
        """What `result.json` says of the cell that was found; None where that is nothing."""
        return None

    def allows(self, genotype: Genotype) -> bool:
        """Whether a cell may be the answer of a selection that asks (`BestOfDraws`)."""
        return True

    def admitted(self, genotype: Genotype, mixture: Mixture) -> Genotype:
        """The cell that the alphas' choice becomes.

        Args:
            genotype: What the discretizer made of them.
            mixture: What they stand for.
        """
        return genotype

    def state(self) -> nn.Module | None:
        """What a checkpoint holds of it; None where the configuration says everything."""
        return None

    @abstractmethod
    def __call__(
        self, arch: ArchParameters, mixture: Mixture, *, progress: float
    ) -> Float[Tensor, ""]:
        """The weighted penalty, differentiable in the alphas.

        Args:
            arch: The alphas.
            mixture: What they stand for without noise, `Relaxation.mean`, a function of them.
            progress: Share of the search that is done, in [0, 1].
        """


@dataclass
class ZeroOne(Penalty):
    """Drives each sigmoid towards 0 or 1 (FairDARTS): -weight * mean of (sigmoid(a) - 1/2)^2.

    The mean runs over all candidates of all edges and kinds. For the relaxation `Sigmoid`, where
    nothing else makes a candidate decide.

    Attributes:
        weight: In front of the mean. The authors take 10.

    Reference:
        Chu et al., ECCV 2020, https://arxiv.org/abs/1911.12126.
    """

    weight: float = 10.0

    def __post_init__(self) -> None:
        _check_weight("penalties.zero_one.weight", self.weight)

    def fits(self, relaxation: Relaxation) -> str | None:
        """Only candidates that do not compete can all be driven."""
        if relaxation.rows_are_distributions:
            return "it drives sigmoids to 0 or 1, so it needs relaxation=sigmoid"
        return None

    def __call__(
        self, arch: ArchParameters, mixture: Mixture, *, progress: float
    ) -> Float[Tensor, ""]:
        """Smallest, -weight / 4, where every sigmoid has decided."""
        logits = arch.stacked()
        absent = logits == -torch.inf
        squares = (logits.sigmoid() - 0.5).square().masked_fill(absent, 0.0)
        return -self.weight * squares.sum() / (~absent).sum()


@dataclass
class BetaDecay(Penalty):
    """Holds the softmax's inputs down (Beta-DARTS): weight * log-sum-exp of each edge's alphas.

    Its gradient in the alphas is the softmax itself, so the strongest candidate is held down
    most. Averaged over the edges of a kind, summed over kinds.

    Attributes:
        weight: Over progress. The authors raise it from 0 to 50, linearly.

    Reference:
        Ye et al., CVPR 2022, https://arxiv.org/abs/2203.01665.
    """

    weight: Linear = field(default_factory=lambda: Linear(0.0, 50.0))

    def __post_init__(self) -> None:
        check_strength("penalties.beta_decay.weight", self.weight)

    def fits(self, relaxation: Relaxation) -> str | None:
        """Only a softmax has the inputs that it holds down."""
        if not relaxation.has_softmax:
            return "it holds a softmax's inputs down; use softmax, concrete or gumbel_hard"
        return None

    def __call__(
        self, arch: ArchParameters, mixture: Mixture, *, progress: float
    ) -> Float[Tensor, ""]:
        """The weighted mean."""
        kinds = arch.unstack(arch.stacked()).values()
        means = [cell.ops.logsumexp(-1).mean() for cell in kinds]
        return self.weight(progress) * torch.stack(means).sum()


@dataclass
class DirichletKL(Penalty):
    """Holds the Dirichlet near the uniform one (DrNAS): weight * sum of KL(Dir(elu(a)+1), Dir(1)).

    For the relaxation `Dirichlet`. It keeps the distribution from growing sharp, or sparse, before
    the weights have been trained. The sum runs over the edges of all kinds.

    Attributes:
        weight: In front of the sum. The authors' code takes 1e-3 (and then no weight decay).

    Reference:
        Chen et al., ICLR 2021, https://arxiv.org/abs/2006.10355.
    """

    weight: float = 1e-3

    def __post_init__(self) -> None:
        _check_weight("penalties.dirichlet_kl.weight", self.weight)

    def fits(self, relaxation: Relaxation) -> str | None:
        """Only under `Dirichlet` do the alphas stand for concentrations."""
        if not isinstance(relaxation, Dirichlet):
            return "it compares Dirichlet distributions, so it needs relaxation=dirichlet"
        return None

    def __call__(
        self, arch: ArchParameters, mixture: Mixture, *, progress: float
    ) -> Float[Tensor, ""]:
        """Zero at alphas of zero."""
        logits = arch.stacked()
        absent = logits == -torch.inf
        # A concentration of 1 in an absent place: each of its terms is zero, or masked out.
        a = log_concentration(logits.masked_fill(absent, 0.0)).exp()
        total = a.masked_fill(absent, 0.0).sum(-1, keepdim=True)
        terms = (a - 1) * (a.digamma() - total.digamma()) - a.lgamma()
        counts = (~absent).sum(-1).to(a)
        kl = terms.sum(-1) + total.squeeze(-1).lgamma() - counts.lgamma()
        return self.weight * kl.sum()


def _check_weight(name: str, weight: float) -> None:
    if not 0 < weight < math.inf:
        raise ValueError(f"{name} must be positive, got {weight}; leave the penalty out instead")
