"""The auxiliary skip connection of DARTS-: a way around the candidates that fades."""

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Generator, Tensor

from darts_gdas.nets import Mixture
from darts_gdas.search.discretize import SKIP
from darts_gdas.search.relaxation import Linear, PerEdge, Relaxation, Relaxed
from darts_gdas.space import CellSpace, SearchSpace


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
        offered = {op for cell in space.cells.values() for row in cell.candidates for op in row}
        if SKIP not in offered:
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
        beta = self.beta(progress)
        cells = {
            kind: replace(cell, ops=cell.ops + beta * _skips(space.cells[kind], cell.ops.device))
            for kind, cell in mixture.items()
        }
        return Mixture(cells)


@lru_cache(maxsize=64)
def _skips(space: CellSpace, device: torch.device) -> Tensor:
    """1 where an edge offers a skip connection, else 0, [edges, candidates]; copied once."""
    columns = range(space.num_candidates)
    rows = [[float(i < len(row) and row[i] == SKIP) for i in columns] for row in space.candidates]
    with torch.inference_mode(False):
        return torch.tensor(rows, device=device)
