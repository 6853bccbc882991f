"""Optimisers and learning-rate schedules, as configuration."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class Schedule(ABC):
    """The learning rate as a function of what is done; it has no state to save."""

    @abstractmethod
    def __call__(self, lr: float, *, epoch: int, num_epochs: int) -> float:
        """The rate during an epoch (counted from 0), from the initial rate."""


@dataclass
class Cosine(Schedule):
    """Half a cosine from the initial rate down to `end`, a step per epoch.

    Attributes:
        end: The rate that would be reached after the last epoch.

    Reference:
        Loshchilov and Hutter, ICLR 2017, https://arxiv.org/abs/1608.03983, eq. (5).
    """

    end: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.end < math.inf:
            raise ValueError(f"optimizer.schedule.end must not be negative, got {self.end}")

    def __call__(self, lr: float, *, epoch: int, num_epochs: int) -> float:
        """Eq. (5) without restarts."""
        return self.end + 0.5 * (lr - self.end) * (1 + math.cos(math.pi * epoch / num_epochs))


@dataclass
class Decay(Schedule):
    """The rate times `gamma` every `every` epochs (ImageNet in Liu et al.: 0.97 each)."""

    gamma: float = 0.97
    every: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1 or self.every < 1:
            raise ValueError(
                "schedule.gamma must lie in (0, 1] and schedule.every be at least 1, "
                f"got {self.gamma} and {self.every}"
            )

    def __call__(self, lr: float, *, epoch: int, num_epochs: int) -> float:
        """Lr * gamma^(epoch // every)."""
        return lr * self.gamma ** (epoch // self.every)


AUTO = "auto"
"""In place of a learning rate: whoever trains measures it."""


@dataclass
class SGD:
    """Stochastic gradient descent for weights.

    Attributes:
        lr: Initial learning rate; "auto" where it is to be measured.
        momentum: Share of a step that goes on in the next one.
        nesterov: Nesterov's form of it.
        weight_decay: L2 decay, on every weight.
        clip: Largest norm of the whole gradient; 0 never clips.
        schedule: Learning rate over the epochs.
        warmup_epochs: Epochs at the beginning in which the rate rises linearly to the schedule's,
            for large batches (Goyal et al., 2017, https://arxiv.org/abs/1706.02677, section 2.2).
    """

    lr: int | float | str = 0.025
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 3e-4
    clip: float = 5.0
    schedule: Schedule = field(default_factory=Cosine)
    warmup_epochs: int = 0

    def __post_init__(self) -> None:
        if self.warmup_epochs < 0:
            raise ValueError(
                f"optimizer.warmup_epochs must not be negative, got {self.warmup_epochs}"
            )
        if isinstance(self.lr, str) and self.lr != AUTO:
            raise ValueError(f"optimizer.lr must be a number or {AUTO!r}, got {self.lr!r}")
        if not isinstance(self.lr, str):
            self.lr = float(self.lr)
            if not 0 < self.lr < math.inf:
                raise ValueError(f"optimizer.lr must be positive, got {self.lr}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"optimizer.momentum must lie in [0, 1), got {self.momentum}")
        for name in ("weight_decay", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"optimizer.{name} must not be negative, got {getattr(self, name)}"
                )
        if self.nesterov and self.momentum == 0:
            raise ValueError("optimizer.nesterov needs a positive optimizer.momentum, got 0")

    @property
    def rate(self) -> float | None:
        """The initial learning rate; None where it is to be measured."""
        return None if isinstance(self.lr, str) else float(self.lr)

    def rate_at(self, lr: float, *, epoch: int, num_epochs: int) -> float:
        """The rate during an epoch (counted from 0), from the initial rate: warm-up and schedule.

        Example:
            >>> sgd = SGD(warmup_epochs=3, schedule=Decay(1.0))
            >>> [round(sgd.rate_at(0.4, epoch=e, num_epochs=5), 3) for e in range(5)]
            [0.1, 0.2, 0.3, 0.4, 0.4]
        """
        rate = self.schedule(lr, epoch=epoch, num_epochs=num_epochs)
        return rate * min((epoch + 1) / (self.warmup_epochs + 1), 1.0)

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.SGD:
        """The optimiser at its initial rate; at 0 where that is to be measured."""
        return torch.optim.SGD(
            list(parameters),
            lr=self.rate or 0.0,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            foreach=True,  # the same arithmetic in one call for all weights
        )

    def step(
        self, optimizer: torch.optim.Optimizer, passes: Callable[[Tensor], bool] | None = None
    ) -> None:
        """Clip and step. A weight without a gradient (it did not run) stands still.

        Args:
            optimizer: Made by `build`.
            passes: Is shown the norm of the whole gradient; where it says no, nothing moves.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = gradient_norm(parameters)
        if passes is None or passes(norm):
            if self.clip > 0:
                nn.utils.clip_grads_with_norm_(parameters, self.clip, norm, foreach=True)
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@dataclass
class Adam:
    """Adam for architecture parameters.

    Attributes:
        lr: Learning rate, constant.
        betas: Decay rates of the moments. Liu et al. use 0.5 and 0.999.
        weight_decay: L2 decay (added to the gradient).
    """

    lr: float = 3e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-3

    def __post_init__(self) -> None:
        if len(self.betas) != 2:
            raise ValueError(f"arch_optimizer.betas are two numbers, got {list(self.betas)}")
        self.betas = (float(self.betas[0]), float(self.betas[1]))
        if not 0 < self.lr < math.inf:
            raise ValueError(f"arch_optimizer.lr must be positive, got {self.lr}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"arch_optimizer.betas must lie in [0, 1), got {list(self.betas)}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                f"arch_optimizer.weight_decay must not be negative, got {self.weight_decay}"
            )

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Adam:
        """The optimiser."""
        return torch.optim.Adam(
            list(parameters), lr=self.lr, betas=self.betas, weight_decay=self.weight_decay
        )


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Norm of all gradients together; zero where there are none."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return nn.utils.get_total_norm(gradients, foreach=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
