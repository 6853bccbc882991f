"""Alignment of layers (Lambda-DARTS): cells of a kind shall want the same of their alphas."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from darts_gdas.nets import Mixture
from darts_gdas.search.hypergradient import (
    Bilevel,
    FirstOrder,
    Hypergradient,
    gradients_of,
)


def alignment(gradients: Sequence[Tensor]) -> Tensor:
    """Mean cosine between the gradients of two cells of a kind, summed over kinds, in float64.

    Args:
        gradients: Per kind [cells, ...]. A kind with one cell has no pairs and adds nothing.

    Example:
        >>> float(alignment([torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])]))  # 1 of 3 pairs
        0.3333333333333333
    """
    total = torch.zeros((), dtype=torch.float64, device=gradients[0].device)
    for gradient in gradients:
        rows = gradient.flatten(1).double()
        norms = rows.norm(dim=1, keepdim=True)
        rows = rows / torch.where(norms > 0, norms, 1.0)
        pairs = rows.sum(0).square().sum() - rows.square().sum()  # each one twice
        total = total + pairs / max(len(rows) * (len(rows) - 1), 1) * (len(rows) > 1)
    return total


@dataclass
class LayerAlignment(Hypergradient):
    """First order, for the validation loss less weight * `alignment` (Lambda-DARTS).

    All cells of a kind share their alphas, but each has a gradient of its own, and where these
    contradict each other the cells near the output decide. The alignment is that of the cells'
    gradients in the mixture; its own gradient is a central difference of the shared one, between
    mixtures in which every cell has moved along the alignment's derivative. Three passes more than
    `FirstOrder`.

    Attributes:
        weight: In front of the alignment. The authors' code takes 0.125 on CIFAR-10; 0 is
            `FirstOrder`, in its time too.
        step: How far all mixtures together move, as a Euclidean norm. The authors' code takes 1e-4.

    Reference:
        Movahedi et al., ICLR 2023, https://arxiv.org/abs/2210.07998.
    """

    differentiates_twice: ClassVar[bool] = False
    takes_differences: ClassVar[bool] = True
    weight: float = 0.125
    step: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"hypergradient.weight must not be negative, got {self.weight}")
        if not 0 < self.step < math.inf:
            raise ValueError(f"hypergradient.step must be positive, got {self.step}")

    def fits(self, cells: Mapping[str, int]) -> str | None:
        """Only cells of a kind that is there twice can be aligned."""
        if max(cells.values()) > 1:
            return None
        return "it aligns the cells of a kind, and the network has one of each"

    def __call__(self, problem: Bilevel) -> Mixture:
        """The plain gradient comes last: the logits that the loss remembers are of that mixture."""
        correction = self._correction(problem) if self.weight else None
        direct = FirstOrder()(problem)
        if correction is None:
            return direct
        pairs = zip(direct.leaves(), correction, strict=True)
        return direct.with_leaves([d - self.weight * c.sum_to_size(d.shape) for d, c in pairs])

    def _correction(self, problem: Bilevel) -> list[Tensor]:
        """The alignment's derivative in each leaf of the mixture, cell by cell."""
        mixture = problem.mixture.per_cell(problem.cells)
        leaves = [g.requires_grad_() for g in problem.gradient_at_rest(mixture)]
        per_cell = [leaf for leaf in leaves if leaf.dim() == 3]  # not the weights of edges
        towards = gradients_of(alignment(per_cell), leaves)
        norm = torch.stack([direction.norm() for direction in towards]).norm()
        step = self.step / norm.clamp_min(torch.finfo(norm.dtype).eps)
        plus, minus = (
            problem.gradient_at_rest(
                mixture.with_leaves(
                    [m + sign * step * d for m, d in zip(mixture.leaves(), towards, strict=True)]
                ),
            )
            for sign in (1, -1)
        )
        return [(p - m) / (2 * step) for p, m in zip(plus, minus, strict=True)]
