"""Selections: discretizers that ask the trained supernet, not the alphas, which cell is best."""

import itertools
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.search.discretize import ArgMax, Discretizer
from darts_gdas.search.one_hot import one_hot
from darts_gdas.space import CellSpace, Genotype, SearchSpace


@runtime_checkable
class Tune(Protocol):
    """Trains the weights of a supernet for an epoch."""

    def __call__(self, mixture: Mixture, *, lr: float, epoch: int, num_epochs: int) -> None:
        """One of `num_epochs` epochs under a mixture, at the schedule's rate, beginning at `lr`."""
        ...


@dataclass(frozen=True)
class TrainedSupernet:
    """A trained supernet as a selection sees it.

    Attributes:
        space: What can be found.
        mixture: The expected mixture after the last update of the alphas.
        accuracy: Validation accuracy of the supernet under a mixture, in [0, 1].
        tune: Trains its weights; what `accuracy` says later depends on it.
        rng: Draws the order and the samples.
        report: Is told how much is done, and of how much.
        scores: Training-free scores of a cell by name, in one of several repeats, each with weights
            and images of its own.
        allows: Whether the penalties allow a cell.
        likeliest: The most probable cell under the mixture, of those that the penalties allow.
        known: What a cell is known to reach, in per cent; None where nothing is known.
    """

    space: SearchSpace
    mixture: Mixture
    accuracy: Callable[[Mixture], float]
    tune: Tune
    rng: random.Random
    report: Callable[[int, int], None]
    scores: Callable[[Genotype, Sequence[str], int], dict[str, float]]
    allows: Callable[[Genotype], bool]
    likeliest: Callable[[], Genotype]
    known: Callable[[Genotype], float] | None = None

    def mean_scores(
        self, genotype: Genotype, names: Sequence[str], repeats: int
    ) -> dict[str, float]:
        """Training-free scores of a cell by name, averaged over its first repeats."""
        rows = [self.scores(genotype, names, repeat) for repeat in range(repeats)]
        return {name: sum(row[name] for row in rows) / repeats for name in names}


@dataclass
class Selection(Discretizer, ABC):
    """A discretizer that runs once, after the last epoch, with the trained supernet at hand.

    While the search runs there is nothing to select yet: what is drawn is `ArgMax`'s genotype.
    """

    asks_weights: ClassVar[bool] = True
    heeds_penalties: ClassVar[bool] = False

    def __call__(self, mixture: Mixture, space: SearchSpace) -> Genotype:
        """`ArgMax`'s genotype, for the pictures of a search that is under way."""
        return ArgMax()(mixture, space)

    @abstractmethod
    def select(self, trained: TrainedSupernet) -> Genotype:
        """The answer of the search."""


@dataclass
class BestOfSamples(Selection):
    """Draw cells of the space, take the one with the best accuracy under shared weights.

    With a `count` of 1 nothing is evaluated: a random cell, the plainest baseline there is.

    Attributes:
        count: Cells to draw, each uniformly from the space. Li and Talwalkar's code draws 1000.

    Reference:
        Li and Talwalkar, UAI 2019, https://arxiv.org/abs/1902.07638, section 3.
    """

    count: int = 1000

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"discretizer.count must be at least 1, got {self.count}")

    @property
    def needs_no_training(self) -> bool:
        """Whether there is one sample, which competes with none."""
        return self.count == 1

    def select(self, trained: TrainedSupernet) -> Genotype:
        """The best; of equal ones the first drawn. A cell drawn twice is evaluated once."""
        drawn = [trained.space.sample(trained.rng) for _ in range(self.count)]
        different = list(dict.fromkeys(drawn))
        if len(different) == 1:
            return different[0]
        trained.report(0, len(different))
        best, highest = different[0], -math.inf
        for i, genotype in enumerate(different):
            accuracy = trained.accuracy(one_hot(genotype, trained.space))
            if accuracy > highest:
                best, highest = genotype, accuracy
            trained.report(i + 1, len(different))
        return best


@dataclass
class PerturbationSelection(Selection):
    """Keep on every edge the operation whose removal hurts the supernet most (DARTS-PT).

    In each round one undecided edge of every kind, in random order, is decided: each candidate is
    left out in turn, and the one without which the validation accuracy is lowest stays, alone and
    with weight 1. When all edges are decided, the nodes follow in random order: each incoming edge
    is left out in turn, and the `keep` without which the accuracy is lowest stay. After a round
    the weights are trained for some epochs, so that the supernet recovers. Of equal accuracies the
    earlier candidate or edge stays.

    What remains is not rescaled when something is left out. Tuning trains the weights alone, under
    the expected mixture; the authors' code trains the alphas on, too.

    Attributes:
        tune_epochs: Epochs after each round but the last. The authors' code takes 5 on
            NAS-Bench-201.
        tune_lr: Learning rate at the beginning of the tuning, from where it follows the
            optimiser's schedule. The authors' code takes a tenth of the search's 0.025.

    Reference:
        Wang et al., ICLR 2021, https://arxiv.org/abs/2108.04392, algorithm 1.
    """

    tune_epochs: int = 5
    tune_lr: float = 0.0025

    def __post_init__(self) -> None:
        if self.tune_epochs < 0:
            raise ValueError(
                f"discretizer.tune_epochs must not be negative, got {self.tune_epochs}"
            )
        if not 0 < self.tune_lr < math.inf:
            raise ValueError(f"discretizer.tune_lr must be positive, got {self.tune_lr}")

    def select(self, trained: TrainedSupernet) -> Genotype:
        """Edges first, then nodes."""
        weights = {kind: cell.edge_weighted for kind, cell in trained.mixture.items()}
        orders = {kind: _order(cell, trained.rng) for kind, cell in trained.space.cells.items()}
        rounds = max(len(order) for order in orders.values())
        num_tuned = (rounds - 1) * self.tune_epochs
        total = num_tuned + sum(map(_num_questions, trained.space.cells.values()))
        done = itertools.count(1)
        trained.report(0, total)
        for number in range(rounds):
            for kind, cell in trained.space.cells.items():

                def accuracy(ops: Tensor, kind: str = kind) -> float:
                    found = trained.accuracy(_mixture({**weights, kind: ops}))
                    trained.report(next(done), total)
                    return found

                for decide, place in orders[kind][number : number + 1]:
                    weights[kind] = decide(weights[kind], place, cell, accuracy)
            for epoch in range(self.tune_epochs if number + 1 < rounds else 0):
                trained.tune(
                    _mixture(weights),
                    lr=self.tune_lr,
                    epoch=number * self.tune_epochs + epoch,
                    num_epochs=num_tuned,
                )
                trained.report(next(done), total)
        return ArgMax()(_mixture(weights), trained.space)


Weights = Float[Tensor, "edges candidates"]
Accuracy = Callable[[Tensor], float]
Decision = Callable[[Tensor, int, CellSpace, Accuracy], Tensor]


def _crowded(space: CellSpace) -> list[int]:
    """The nodes that have more edges than they keep."""
    nodes = range(space.num_nodes) if space.keep is not None else ()
    return [node for node in nodes if len(space.edges_into(node)) > (space.keep or 0)]


def _num_questions(space: CellSpace) -> int:
    """Accuracies that the decisions about a cell ask for."""
    edges = sum(len(space.derivable(edge)) for edge in range(len(space.edges)))
    return edges + sum(len(space.edges_into(node)) for node in _crowded(space))


def _order(space: CellSpace, rng: random.Random) -> Sequence[tuple[Decision, int]]:
    """What is decided one after the other: the edges, then the nodes that have too many."""
    edges, nodes = list(range(len(space.edges))), _crowded(space)
    rng.shuffle(edges)
    rng.shuffle(nodes)
    decisions: list[tuple[Decision, int]] = [(_decide_edge, edge) for edge in edges]
    return [*decisions, *((_decide_node, node) for node in nodes)]


def _decide_edge(ops: Weights, edge: int, space: CellSpace, accuracy: Accuracy) -> Weights:
    """The weights with the best candidate alone on this edge."""
    offered = [space.candidates[edge].index(name) for name in space.derivable(edge)]

    def without(candidate: int) -> float:
        changed = ops.clone()
        changed[edge, candidate] = 0.0
        return accuracy(changed)

    decided = ops.clone()
    decided[edge] = 0.0
    decided[edge, min(offered, key=without)] = 1.0
    return decided


def _decide_node(ops: Weights, node: int, space: CellSpace, accuracy: Accuracy) -> Weights:
    """The weights with the best `keep` edges into this node alone."""
    into = space.edges_into(node)

    def without(edge: int) -> float:
        changed = ops.clone()
        changed[edge] = 0.0
        return accuracy(changed)

    decided = ops.clone()
    for edge in sorted(into, key=without)[space.keep :]:
        decided[edge] = 0.0
    return decided


def _mixture(weights: dict[str, Tensor]) -> Mixture:
    """The weights as a mixture; where all edges are decided, only what is left runs."""
    cells = {}
    for kind, ops in weights.items():
        is_decided = bool(((ops != 0).sum(-1) <= 1).all())
        active = tuple(ops.argmax(-1).tolist()) if is_decided else None
        cells[kind] = CellMixture(ops, active=active)
    return Mixture(cells)
