"""The configuration of what presses on alphas and weights: penalties, and what they go with."""

import math
from dataclasses import dataclass, fields, replace

import torch
from omegaconf import MISSING

from darts_gdas.nets import Layout, Quantity, build_cost_table
from darts_gdas.search import (
    BetaDecay,
    Cost,
    Dirichlet,
    DirichletKL,
    GumbelHard,
    Penalty,
    Perturbation,
    Relaxation,
    Sigmoid,
    Uniform,
    ZeroOne,
)
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.method import Order


@dataclass
class CostConfig:
    """The penalty `Cost`, before its table is built.

    Attributes:
        target: What the network may cost: parameters, multiply-adds per image, or milliseconds
            per image, measured on this run's device.
        quantity: Which of the three.
        weight: Of being twice as dear as the target.
        channels: Of the network whose cost counts, such as that to be retrained; null is the
            search's own.
        layers: Of the same network.
    """

    target: float = MISSING
    quantity: Quantity = Quantity.parameters
    weight: float = 1.0
    channels: int | None = None
    layers: int | None = None

    def __post_init__(self) -> None:
        for name in ("target", "weight"):
            value = getattr(self, name)
            if value != MISSING and not 0 < value < math.inf:
                raise ValueError(f"penalties.cost.{name} must be positive, got {value}")
        for name in ("channels", "layers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"penalties.cost.{name} must be at least 1, got {value}")

    def build(
        self,
        space: SearchSpace,
        layout: Layout,
        image_size: tuple[int, int],
        device: torch.device,
    ) -> Cost:
        """Count or measure the candidates.

        Raises:
            ValueError: If no network of the space meets the target, or its size has no meaning.
        """
        try:
            network = replace(
                layout,
                channels=self.channels or layout.channels,
                layers=self.layers or layout.layers,
            )
        except ValueError as error:
            raise ValueError(f"penalties.cost.channels, layers: {error}") from None
        table = build_cost_table(space, network, image_size, self.quantity, device)
        return Cost(table, self.quantity, self.target, self.weight)


@dataclass
class Penalties:
    """What is added to the validation loss in the arch step: penalties=[NAME, ...].

    Attributes:
        zero_one: For relaxation=sigmoid.
        beta_decay: For a softmax.
        dirichlet_kl: For relaxation=dirichlet.
        cost: For any.
    """

    zero_one: ZeroOne | None = None
    beta_decay: BetaDecay | None = None
    dirichlet_kl: DirichletKL | None = None
    cost: CostConfig | None = None

    @property
    def names(self) -> list[str]:
        """Those that are configured."""
        return [part.name for part in fields(self) if getattr(self, part.name) is not None]

    def build(
        self,
        space: SearchSpace,
        layout: Layout,
        image_size: tuple[int, int],
        device: torch.device,
    ) -> tuple[Penalty, ...]:
        """Those that are configured."""
        cost = self.cost and self.cost.build(space, layout, image_size, device)
        chosen = (self.zero_one, self.beta_decay, self.dirichlet_kl, cost)
        return tuple(penalty for penalty in chosen if penalty is not None)


def check_pressure(
    relaxation: Relaxation,
    penalties: Penalties,
    perturbation: Perturbation | None,
    order: Order,
) -> None:
    """Raise a `ValueError` where a penalty or a perturbation has no meaning or no effect."""
    if penalties.names and order is Order.weights_only:
        raise ValueError(
            f"penalties={penalties.names} press on the alphas, which order=weights_only never "
            "steps; leave them out"
        )
    if penalties.zero_one is not None and not isinstance(relaxation, Sigmoid):
        raise ValueError(
            "penalties.zero_one drives sigmoids to 0 or 1, so it needs relaxation=sigmoid, got "
            f"{type(relaxation).__name__}; leave it out of penalties"
        )
    if penalties.dirichlet_kl is not None and not isinstance(relaxation, Dirichlet):
        raise ValueError(
            "penalties.dirichlet_kl compares Dirichlet distributions, so it needs "
            f"relaxation=dirichlet, got {type(relaxation).__name__}; leave it out of penalties"
        )
    if penalties.beta_decay is not None and isinstance(relaxation, Sigmoid | Dirichlet):
        raise ValueError(
            "penalties.beta_decay holds a softmax's inputs down, and relaxation="
            f"{type(relaxation).__name__.lower()} has no softmax; use softmax, concrete or "
            "gumbel_hard, or leave it out of penalties"
        )
    if perturbation is None:
        return
    if isinstance(relaxation, GumbelHard | Uniform):
        name = "gumbel_hard" if isinstance(relaxation, GumbelHard) else "uniform"
        raise ValueError(
            f"perturbation moves the weights of all candidates, but relaxation={name} runs one "
            "per edge; use relaxation=softmax or concrete, or perturbation=none"
        )
    if perturbation.renormalize and isinstance(relaxation, Sigmoid):
        raise ValueError(
            "perturbation.renormalize=true makes rows distributions, which those of "
            "relaxation=sigmoid are not; set perturbation.renormalize=false"
        )
