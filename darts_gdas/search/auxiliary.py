"""The auxiliary skip connection of DARTS-: a way around the candidates that fades."""

import math
from dataclasses import dataclass, field, replace
from functools import cache
from typing import ClassVar

import torch
from torch import Generator

from darts_gdas.nets import Mixture
from darts_gdas.nets.constant import constant
from darts_gdas.search.relaxation import Linear, PerEdge, Relaxation, Relaxed
from darts_gdas.space import SKIP, CellSpace, SearchSpace


@dataclass
class AuxiliarySkip(Relaxation):
    """DARTS's softmax, and beside it on every edge a skip connection of weight beta (DARTS-).

    Skip connections help the weights to train, whatever they are worth in the end. The auxiliary
    one gives this help to every edge, so that the candidate competes by its worth alone. The alphas
    do not see it: what is shown and discretised is the softmax.

    It is the candidate `skip_connect` with a larger weight, the same function where the edge keeps
    the size. On a strided edge both share the weights of one reduction. An edge that does not offer
    the candidate gets none.

    Attributes:
        beta: Its weight over progress. The authors let it fall linearly from 1 to 0; 0 throughout
            is DARTS.

    Reference:
        Chu et al., ICLR 2021, https://arxiv.org/abs/2009.01027.
    """

    has_softmax: ClassVar[bool] = True
    rows_exceed_one: ClassVar[bool] = True
    beta: Linear = field(default_factory=lambda: Linear(1.0, 0.0))

    def __post_init__(self) -> None:
        ends = self.beta.start, self.beta.end
        if not all(0 <= end < math.inf for end in ends):
            raise ValueError(f"relaxation.beta must not be negative, got {ends[0]} -> {ends[1]}")

    def fits(self, space: SearchSpace) -> str | None:
        """Only where some edge offers a skip connection."""
        if not space.offers(SKIP):
            return f"no edge of the space offers {SKIP}, to whose weight it adds"
        return None

    def relax(self, logits: PerEdge, *, progress: float, rng: Generator | None) -> Relaxed:
        """Softmax over each row."""
        return logits.softmax(-1), None

    def expectation(self, logits: PerEdge) -> PerEdge:
        """The softmax itself, without the auxiliary weight."""
        return logits.softmax(-1)

    def completed(self, mixture: Mixture, space: SearchSpace, *, progress: float) -> Mixture:
        """Beta more on every skip connection."""
        cells = {}
        for kind, cell in mixture.items():
            skips = constant(_skips(space.cells[kind]), torch.get_default_dtype(), cell.ops.device)
            cells[kind] = replace(cell, ops=cell.ops + self.beta(progress) * skips)
        return Mixture(cells)


@cache
def _skips(space: CellSpace) -> tuple[tuple[float, ...], ...]:
    """1 where an edge offers a skip connection, else 0, [edges, candidates]."""
    columns = range(space.num_candidates)
    return tuple(
        tuple(float(i < len(row) and row[i] == SKIP) for i in columns) for row in space.candidates
    )
