"""Perturbations: the weights are trained under a mixture that is not quite the present one."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from darts_gdas.nets import Mixture
from darts_gdas.search.relaxation import Linear, check_strength

MixtureLoss = Callable[[Mixture], Tensor]


@dataclass
class Perturbation(ABC):
    """What the weight step does to its mixture; the arch step sees the mixture as it is.

    Weights that are good in a neighbourhood of the mixture make the validation loss flat there, so
    that little is lost when the mixture is discretised. The neighbourhood is a cube: no weight of
    a candidate moves by more than epsilon, before rows are made distributions again.

    Attributes:
        epsilon: Half the side of the cube, over progress. The authors' code: 0.03 to 0.3.
        renormalize: Clip the moved weights to [0, 1] and divide each row by its sum, as the
            authors' code does. Rows stay distributions, but may leave the cube; the paper's
            equations have the cube alone.
        looks_at_the_loss: Whether `move` evaluates the loss: more passes, of a whole batch.

    Reference:
        Chen and Hsieh, ICML 2020, https://arxiv.org/abs/2002.05283.
    """

    looks_at_the_loss: ClassVar[bool] = True
    epsilon: Linear = field(default_factory=lambda: Linear(0.03, 0.3))
    renormalize: bool = True

    def __post_init__(self) -> None:
        check_strength("perturbation.epsilon", self.epsilon)

    def __call__(
        self, mixture: Mixture, loss: MixtureLoss, *, progress: float, rng: Generator
    ) -> Mixture:
        """Another mixture, detached.

        Args:
            mixture: The present one.
            loss: The training loss of a mixture, with the present weights.
            progress: Share of the search that is done, in [0, 1].
            rng: CPU generator.

        Raises:
            ValueError: If the mixture is sparse: moving candidates that do not run has no effect.
        """
        if any(cell.active is not None for cell in mixture.values()):
            raise ValueError("a sparse mixture cannot be perturbed: one candidate per edge runs")
        return self.move(mixture.detach(), loss, self.epsilon(progress), rng)

    @abstractmethod
    def move(self, mixture: Mixture, loss: MixtureLoss, epsilon: float, rng: Generator) -> Mixture:
        """The mixture to train under."""

    def settings(self, progress: float) -> dict[str, float]:
        """Numbers worth a curve at this progress, by name."""
        return {"epsilon": self.epsilon(progress)}

    def random_start(self, mixture: Mixture, epsilon: float, rng: Generator) -> Mixture:
        """A uniform point of the cube."""
        moved = []
        for cell in mixture.values():
            noise = torch.rand(cell.ops.shape, generator=rng, dtype=torch.float64)
            moved.append(cell.ops + (epsilon * (2 * noise - 1)).to(cell.ops))
        return self.placed(mixture, moved)

    def placed(self, mixture: Mixture, ops: list[Tensor]) -> Mixture:
        """The mixture with moved weights, made distributions if asked for.

        A weight of exactly zero stays: an edge may lack that candidate.
        """
        cells = {}
        for (kind, cell), weights in zip(mixture.items(), ops, strict=True):
            weights = weights.masked_fill(cell.ops == 0, 0.0)
            cells[kind] = replace(
                cell, ops=_distributions(weights) if self.renormalize else weights
            )
        return Mixture(cells)


@dataclass
class RandomPerturbation(Perturbation):
    """Random smoothing (SDARTS-RS): uniform noise in the cube. Costs nothing.

    Reference:
        Chen and Hsieh, ICML 2020, https://arxiv.org/abs/2002.05283.
    """

    looks_at_the_loss: ClassVar[bool] = False

    def move(self, mixture: Mixture, loss: MixtureLoss, epsilon: float, rng: Generator) -> Mixture:
        """Uniform noise, fresh in every step."""
        return self.random_start(mixture, epsilon, rng)


@dataclass
class AdversarialPerturbation(Perturbation):
    """The worst of the cube (SDARTS-ADV), by projected gradient ascent.

    From a uniform point, `steps` steps along the sign of the gradient, each 2 epsilon / steps long
    and projected back onto the cube, so that every corner is in reach. Should the loss end below
    that of the mixture as it is, that one is kept. A weight step costs `steps` + 2 more forward
    passes and `steps` more backward passes to the mixture.

    Attributes:
        steps: Number of ascent steps. The authors' code takes 7.

    Reference:
        Chen and Hsieh, ICML 2020, https://arxiv.org/abs/2002.05283.
    """

    steps: int = 7

    def __post_init__(self) -> None:
        Perturbation.__post_init__(self)
        if self.steps < 1:
            raise ValueError(f"perturbation.steps must be at least 1, got {self.steps}")

    def move(self, mixture: Mixture, loss: MixtureLoss, epsilon: float, rng: Generator) -> Mixture:
        """About the largest loss within the cube, and no smaller one than at its centre."""
        centre = [cell.ops for cell in mixture.values()]
        moved = self.random_start(mixture, epsilon, rng)
        for _ in range(self.steps):
            leaf = moved.require_grad()
            ops = [cell.ops for cell in leaf.values()]
            gradients = torch.autograd.grad(loss(leaf), ops)
            climbed = [
                c + (w.detach() + 2 * epsilon / self.steps * g.sign() - c).clamp(-epsilon, epsilon)
                for c, w, g in zip(centre, ops, gradients, strict=True)
            ]
            moved = self.placed(mixture, climbed)
        with torch.no_grad():
            has_climbed = loss(moved) >= loss(mixture)
        pairs = zip(moved.leaves(), mixture.leaves(), strict=True)
        return mixture.with_leaves([torch.where(has_climbed, m, c) for m, c in pairs])


def _distributions(weights: Tensor) -> Tensor:
    """Rows clipped to [0, 1], then divided by their sum; one-hot where nothing is left."""
    clipped = weights.clamp(0.0, 1.0)
    largest = torch.nn.functional.one_hot(weights.argmax(-1), weights.shape[-1]).to(weights)
    clipped = torch.where(clipped.sum(-1, keepdim=True) > 0, clipped, largest)
    return clipped / clipped.sum(-1, keepdim=True)
