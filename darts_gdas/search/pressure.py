"""Penalties: what the alphas are pressed towards, besides a small validation loss."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.nets import CostTable, Mixture, Quantity
from darts_gdas.search.dense import log_concentration
from darts_gdas.search.relaxation import ArchParameters, Linear, check_strength


@dataclass
class Penalty(ABC):
    """A number that the arch step makes small along with the validation loss.

    Its gradient is added to the alphas' in the same backward call; it never reaches a weight.
    """

    name: ClassVar[str]
    """Of its curve and of its key in the configuration."""

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

    name: ClassVar[str] = "zero_one"
    weight: float = 10.0

    def __post_init__(self) -> None:
        _check_weight("penalties.zero_one.weight", self.weight)

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

    name: ClassVar[str] = "beta_decay"
    weight: Linear = field(default_factory=lambda: Linear(0.0, 50.0))

    def __post_init__(self) -> None:
        check_strength("penalties.beta_decay.weight", self.weight)

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

    name: ClassVar[str] = "dirichlet_kl"
    weight: float = 1e-3

    def __post_init__(self) -> None:
        _check_weight("penalties.dirichlet_kl.weight", self.weight)

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


@dataclass
class Cost(Penalty):
    """Presses the mean cost of derived networks below a target: weight * max(0, cost/target - 1).

    The cost is that of the network which the mean mixture stands for, fixed parts included, so it
    compares with the counted cost of a finished one. Below the target it is silent.

    Attributes:
        table: What the candidates cost.
        quantity: What is counted.
        target: Not to be exceeded, in the table's unit.
        weight: Of being twice as dear as the target. A validation loss is around 1.

    Raises:
        ValueError: If no network of the space meets the target.
    """

    name: ClassVar[str] = "cost"
    table: CostTable
    quantity: Quantity
    target: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        smallest = self.table.smallest
        if self.target < smallest:
            raise ValueError(
                f"penalties.cost.target={self.target:.12g} cannot be met: the smallest network of "
                f"this space and size costs {smallest:.12g} ({self.quantity.name}), so take at "
                "least that"
            )

    def __call__(
        self, arch: ArchParameters, mixture: Mixture, *, progress: float
    ) -> Float[Tensor, ""]:
        """The weighted excess."""
        excess = self.table.expected(mixture) / self.target - 1
        return self.weight * excess.clamp_min(0.0)


def _check_weight(name: str, weight: float) -> None:
    if not 0 < weight < math.inf:
        raise ValueError(f"{name} must be positive, got {weight}; leave the penalty out instead")
