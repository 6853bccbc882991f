"""Hypergradients: the validation loss's derivative in the mixture, weights answering or not."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from darts_gdas.nets import Mixture

Weights = dict[str, Tensor]
Loss = Callable[[Weights, Mixture], Tensor]


@dataclass(frozen=True, slots=True)
class SGDStep:
    """One step of SGD as a function of weights and gradients; torch's formula, no clipping.

    d = g + weight_decay * w;  b = momentum * buffer + d;  w' = w - lr * b, or with Nesterov
    w' = w - lr * (d + momentum * b).

    Attributes:
        buffers: Momentum buffers by weight name; a missing name counts as zero.
    """

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    buffers: Weights | None = None

    def __call__(self, weights: Weights, gradients: Weights) -> Weights:
        """The weights after the step, differentiable in both arguments."""
        return {name: self._moved(name, w, gradients[name]) for name, w in weights.items()}

    def _moved(self, name: str, weight: Tensor, gradient: Tensor) -> Tensor:
        direction = gradient + self.weight_decay * weight
        buffer = (self.buffers or {}).get(name)
        momentum = direction if buffer is None else self.momentum * buffer + direction
        step = direction + self.momentum * momentum if self.nesterov else momentum
        return weight - self.lr * step

    @property
    def gradient_scale(self) -> float:
        """-dw'/dg, the factor xi in front of the second-order term."""
        return self.lr * (1 + self.momentum if self.nesterov else 1.0)


@dataclass(frozen=True, slots=True)
class Bilevel:
    """min over the mixture of validation_loss(w*, mixture), w* = argmin train_loss(w, mixture).

    Attributes:
        train_loss: Scalar loss of (weights, mixture) on a batch of the weights' half.
        validation_loss: The same on a batch of the architecture's half.
        weights: Current weights by name; never written to.
        mixture: Where the gradient is asked for.
        inner_step: Asked for what the weights would do next, where they are to answer.
        cells: How many cells of each kind the network has, where the losses take a mixture for
            each of them.
        standing_loss: The validation loss of the mixture alone, at the weights as they are, which
            collect no gradient. None asks `validation_loss`; a network by itself is faster than
            with its weights put in.
    """

    train_loss: Loss
    validation_loss: Loss
    weights: Weights
    mixture: Mixture
    inner_step: Callable[[], SGDStep]
    cells: Mapping[str, int] = field(default_factory=dict)
    standing_loss: Callable[[Mixture], Tensor] | None = None

    def gradient_at_rest(self, mixture: Mixture) -> list[Tensor]:
        """Of the validation loss in the mixture's leaves, the weights standing still."""
        leaf = mixture.require_grad()
        if self.standing_loss is None:
            loss = self.validation_loss(detached(self.weights), leaf)
        else:
            loss = self.standing_loss(leaf)
        return gradients_of(loss, leaf.leaves())


@dataclass
class Hypergradient(ABC):
    """d validation loss / d mixture; the caller pulls it back to the alphas.

    The first two attributes are True unless a class says otherwise: what they rule out would give
    wrong numbers without a word.

    Attributes:
        looks_ahead: Whether it takes several passes, with products over whole batches, as where the
            weights answer.
        differentiates_twice: Whether a loss is differentiated a second time.
        takes_differences: Whether nearly equal numbers are subtracted, which need all digits.
    """

    looks_ahead: ClassVar[bool] = True
    differentiates_twice: ClassVar[bool] = True
    takes_differences: ClassVar[bool] = False

    def fits(self, cells: Mapping[str, int]) -> str | None:
        """Why it has no effect in a network with so many cells of each kind; None where it has."""
        return None

    @abstractmethod
    def __call__(self, problem: Bilevel) -> Mixture:
        """A gradient, shaped like the mixture."""


@dataclass
class FirstOrder(Hypergradient):
    """The weights stand still: d L_val(w, m) / dm. One forward and backward pass.

    Reference:
        Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055, eq. (6) with xi = 0.
    """

    looks_ahead: ClassVar[bool] = False
    differentiates_twice: ClassVar[bool] = False

    def __call__(self, problem: Bilevel) -> Mixture:
        """One backward pass that stops at the mixture; no weight gradient is formed."""
        return problem.mixture.with_leaves(problem.gradient_at_rest(problem.mixture))


@dataclass
class Unrolled(Hypergradient):
    """The weights answer by one step; its second-order term by finite differences.

    d L_val(w') / dm - xi * [d L_train(w+) / dm - d L_train(w-) / dm] / (2 eps), with
    w' the weights after one step, w+- = w +- eps * d L_val / dw', eps = epsilon / norm of that.
    Four passes in place of `UnrolledExact`'s double backward. On networks with ReLU or max
    pooling the difference straddles kinks and points elsewhere than the exact product; it follows
    the loss's response to finite moves of the mixture better (docs/benchmarks.md).

    Attributes:
        epsilon: Length of the finite-difference step in weight space. The paper uses 0.01.

    Reference:
        Liu et al., ICLR 2019, eq. (7)-(8).
    """

    differentiates_twice: ClassVar[bool] = False
    takes_differences: ClassVar[bool] = True
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"hypergradient.epsilon must be positive, got {self.epsilon}")

    def __call__(self, problem: Bilevel) -> Mixture:
        """Neither weights nor mixture are written to, so nothing needs restoring."""
        weights = _leaves(problem.weights)
        fixed = problem.mixture.detach()
        inner = gradients_of(problem.train_loss(weights, fixed), weights.values())
        step = problem.inner_step()
        stepped = _leaves(step(detached(weights), dict(zip(weights, inner, strict=True))))

        mixture = problem.mixture.require_grad()
        loss = problem.validation_loss(stepped, mixture)
        outer = gradients_of(loss, [*mixture.leaves(), *stepped.values()])
        direct, direction = outer[: len(mixture.leaves())], outer[len(mixture.leaves()) :]

        norm = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(v) for v in direction])
        )
        eps = self.epsilon / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        plus, minus = (
            self._mixture_gradient(problem, direction, sign * eps) for sign in (1.0, -1.0)
        )
        scale = step.gradient_scale / (2 * eps)
        return mixture.with_leaves(
            [d - scale * (p - m) for d, p, m in zip(direct, plus, minus, strict=True)]
        )

    @staticmethod
    def _mixture_gradient(
        problem: Bilevel, direction: Sequence[Tensor], step: Tensor
    ) -> list[Tensor]:
        """Gradient of the training loss at weights moved by `step` along `direction`."""
        moved = {
            name: weight.detach() + step * v
            for (name, weight), v in zip(problem.weights.items(), direction, strict=True)
        }
        mixture = problem.mixture.require_grad()
        return gradients_of(problem.train_loss(moved, mixture), mixture.leaves())


@dataclass
class UnrolledExact(Hypergradient):
    """The weights answer by one step; its second-order term by double backward.

    Differentiates through the step itself: the derivative of eq. (6) with no finite difference,
    exact between the kinks of ReLU and max pooling, which lie densely in a network of them.
    Costs about 1.5 times `Unrolled`.

    Reference:
        Liu et al., ICLR 2019, eq. (6).
    """

    def __call__(self, problem: Bilevel) -> Mixture:
        """One forward pass of each loss; the training loss is differentiated twice."""
        weights = _leaves(problem.weights)
        mixture = problem.mixture.require_grad()
        train_loss = problem.train_loss(weights, mixture)
        inner = gradients_of(train_loss, weights.values(), create_graph=True)
        stepped = problem.inner_step()(weights, dict(zip(weights, inner, strict=True)))
        loss = problem.validation_loss(stepped, mixture)
        return mixture.with_leaves(gradients_of(loss, mixture.leaves()))


def detached(weights: Weights) -> Weights:
    """The same values, which collect no gradient."""
    return {name: weight.detach() for name, weight in weights.items()}


def _leaves(weights: Weights) -> Weights:
    return {name: weight.detach().requires_grad_() for name, weight in weights.items()}


def gradients_of(
    loss: Tensor, inputs: Iterable[Tensor], *, create_graph: bool = False
) -> list[Tensor]:
    """Gradients, zero where the loss does not depend on an input (a candidate that did not run)."""
    inputs = list(inputs)
    if not loss.requires_grad:  # nothing on the sampled path depends on the inputs
        return [torch.zeros_like(x) for x in inputs]
    found = torch.autograd.grad(loss, inputs, allow_unused=True, create_graph=create_graph)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]
