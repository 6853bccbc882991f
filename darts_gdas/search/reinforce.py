"""REINFORCE over cells: a distribution that learns from what its samples are worth."""

import itertools
import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from darts_gdas.search.judges import JudgedSelection, Trials
from darts_gdas.space import CellGenotype, CellSpace, Edge, Genotype, SearchSpace


class CellPolicy(nn.Module):
    """A distribution over the cells of a space, in which every edge decides by itself.

    A node that keeps fewer edges than it has draws them one after the other, without replacement,
    by a softmax over its edges; each kept edge draws its operation by a softmax over those that can
    be final. At logits of zero it is `SearchSpace.sample`'s distribution.

    Args:
        space: The cells.

    Attributes:
        ops: Logits [edges, candidates] by kind, in float64.
        edges: Logits [edges] by kind.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.ops, self.edges = nn.ParameterDict(), nn.ParameterDict()
        for kind, cell in space.cells.items():
            shape = len(cell.edges), cell.num_candidates
            self.ops[kind] = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
            self.edges[kind] = nn.Parameter(torch.zeros(shape[0], dtype=torch.float64))

    @torch.no_grad()
    def sample(self, rng: random.Random) -> Genotype:
        """A cell."""
        cells = {kind: self._cell(kind, cell, rng) for kind, cell in self.space.cells.items()}
        return self.space.genotype(cells)

    def _cell(self, kind: str, space: CellSpace, rng: random.Random) -> CellGenotype:
        nodes = []
        for node in range(space.num_nodes):
            pool = list(space.edges_into(node))
            kept = pool
            if space.keep is not None:
                kept = [pool.pop(_draw(self.edges[kind][pool], rng)) for _ in range(space.keep)]
            drawn = {}
            for edge in sorted(kept):
                names = space.derivable(edge)
                drawn[edge] = names[_draw(self._logits(kind, space, edge), rng)]
            nodes.append(tuple(Edge(op, space.edges[edge][1]) for edge, op in drawn.items()))
        return CellGenotype(tuple(nodes), space.output, space.num_inputs)

    def _logits(self, kind: str, space: CellSpace, edge: int) -> Tensor:
        """Of the operations that can be final, in the order of `CellSpace.derivable`."""
        columns = [space.candidates[edge].index(name) for name in space.derivable(edge)]
        return self.ops[kind][edge, columns]

    def log_probability(self, genotype: Genotype) -> Tensor:
        """Log of the probability that `sample` returns a cell, differentiable in the logits."""
        total = torch.zeros((), dtype=torch.float64)
        for kind, space in self.space.cells.items():
            positions = {pair: edge for edge, pair in enumerate(space.edges)}
            for node, edges in enumerate(genotype.cells[kind].nodes):
                kept = [positions[node, edge.source] for edge in edges]
                total = total + self._log_kept(kind, space.edges_into(node), kept)
                for position, edge in zip(kept, edges, strict=True):
                    chosen = space.derivable(position).index(edge.op)
                    total = total + self._logits(kind, space, position).log_softmax(0)[chosen]
        return total

    def _log_kept(self, kind: str, into: range, kept: list[int]) -> Tensor:
        """That these edges are drawn, in whatever order."""
        if len(kept) == len(into):
            return torch.zeros((), dtype=torch.float64)
        orders = []
        for order in itertools.permutations(kept):
            rest = [[edge for edge in into if edge not in order[:i]] for i in range(len(order))]
            terms = [
                self.edges[kind][edge] - self.edges[kind][left].logsumexp(0)
                for edge, left in zip(order, rest, strict=True)
            ]
            orders.append(torch.stack(terms).sum())
        return torch.stack(orders).logsumexp(0)


def _draw(logits: Tensor, rng: random.Random) -> int:
    return rng.choices(range(len(logits)), weights=logits.softmax(0).tolist())[0]


@dataclass
class Reinforce(JudgedSelection):
    """Policy gradient: -(worth - baseline) d log p(cell), a step of Adam per cell.

    The baseline is a moving average of what the cells before were worth. It knows nothing of the
    present one, so it does not bias the gradient; AutoDL-Projects counts the present one in. The
    first cell sets the baseline and steps nothing, nor does a cell without a value (-inf).

    Attributes:
        lr: Adam's rate. AutoDL-Projects takes 0.01 on NATS-Bench.
        momentum: Share of the average that stays when a cell joins it. AutoDL-Projects takes 0.9.

    Reference:
        Williams, 1992, https://doi.org/10.1007/BF00992696. As a baseline of NAS-Bench-201: Dong and
        Yang, ICLR 2020, https://arxiv.org/abs/2001.00326, section 5.
    """

    lr: float = 0.01
    momentum: float = 0.9

    def __post_init__(self) -> None:
        JudgedSelection.__post_init__(self)
        if not 0 < self.lr < math.inf:
            raise ValueError(f"discretizer.lr must be positive, got {self.lr}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"discretizer.momentum must lie in [0, 1), got {self.momentum}")

    def explore(self, trials: Trials) -> None:
        """A sample, its worth, a step."""
        policy = CellPolicy(trials.trained.space)
        optimizer = torch.optim.Adam(policy.parameters(), lr=self.lr)
        baseline: float | None = None
        for _ in range(self.count):
            genotype = policy.sample(trials.trained.rng)
            worth = trials(genotype)
            if not math.isfinite(worth):
                continue
            if baseline is None:
                baseline = worth
                continue
            optimizer.zero_grad()
            ((baseline - worth) * policy.log_probability(genotype)).backward()
            optimizer.step()
            baseline = self.momentum * baseline + (1 - self.momentum) * worth
