"""A selection by training-free scores: of cells drawn from the alphas, the best."""

import logging
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Generator, Tensor

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.scoring.correlation import rank_sum
from darts_gdas.scoring.scores import DEFAULT_SCORES, check_scores
from darts_gdas.search.discretize import ArgMax
from darts_gdas.search.one_hot import one_hot
from darts_gdas.search.relaxation import gumbel_noise
from darts_gdas.search.selection import Selection, TrainedSupernet
from darts_gdas.space import Genotype, SearchSpace

logger = logging.getLogger(__name__)

PATIENCE = 20
"""How many draws there are per cell that is wanted, before the alphas are flattened."""

FLATTENINGS = 10
"""How often the alphas are flattened; then the draws are uniform for all that matters."""


@dataclass
class BestOfDraws(Selection):
    """Draw cells from the alphas, take the one with the largest sum of ranks.

    Each edge draws an operation, and each node its edges, with the probabilities that the expected
    mixture gives them. The cells are scored as small untrained networks; the ranks of the scores
    are added up, and so are those of the probability under the alphas and of the accuracy under
    shared weights, where asked for. Cells that a penalty does not allow are drawn again; where no
    draw is allowed, the answer is the most probable cell that is.

    Attributes:
        count: Cells to compare, all of them different.
        scores: What to score by, see `darts_gdas.scoring.scores`.
        repeats: Networks and batches per cell, whose scores are averaged.
        by_alphas: Whether the probability of a cell counts as a score.
        by_weights: Whether the accuracy under shared weights counts as one. Weights trained in few
            steps favour cells that learn fast, which are not those that learn well.
    """

    heeds_penalties: ClassVar[bool] = True
    scores_setting: ClassVar[str] = "discretizer.scores"
    count: int = 100
    scores: list[str] = field(default_factory=lambda: list(DEFAULT_SCORES))
    repeats: int = 1
    by_alphas: bool = True
    by_weights: bool = False

    def __post_init__(self) -> None:
        check_scores(self.scores, "discretizer.scores")
        for name in ("count", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"discretizer.{name} must be at least 1, got {getattr(self, name)}"
                )

    @property
    def asked_scores(self) -> tuple[str, ...]:
        """Those that order the cells drawn."""
        return tuple(self.scores)

    def select(self, trained: TrainedSupernet) -> Genotype:
        """The best; of equal ones the first drawn.

        Raises:
            ValueError: If the penalties allow none of the cells drawn, nor the most probable one.
        """
        drawn = self._draw(trained)
        measured = []
        trained.report(0, len(drawn))
        for done, genotype in enumerate(drawn):
            measured.append(self._measure(genotype, trained))
            trained.report(done + 1, len(drawn))
        columns = [[row[name] for row in measured] for name in measured[0]]
        total = rank_sum(columns).tolist()
        return drawn[total.index(max(total))]

    def _draw(self, trained: TrainedSupernet) -> list[Genotype]:
        """As many different cells as asked for, or as there are."""
        found: dict[Genotype, None] = {}
        for flattening in range(FLATTENINGS):
            for _ in range(PATIENCE * self.count):
                genotype = draw(trained.mixture, trained.space, trained.rng, 2.0**flattening)
                if genotype not in found and trained.allows(genotype):
                    found[genotype] = None
                if len(found) == self.count:
                    return list(found)
        if found:
            return list(found)
        told = (
            f"none of {FLATTENINGS * PATIENCE * self.count} cells drawn is one that penalties allow"
        )
        likeliest = trained.likeliest()
        if not trained.allows(likeliest):
            raise ValueError(f"{told}, nor is the most probable cell; loosen what they limit")
        logger.warning("%s; the answer is the most probable one that they do", told)
        return [likeliest]

    def _measure(self, genotype: Genotype, trained: TrainedSupernet) -> Mapping[str, float]:
        found = trained.mean_scores(genotype, self.scores, self.repeats)
        mixture = one_hot(genotype, trained.space)
        if self.by_alphas:
            found["probability under the alphas"] = log_likelihood(mixture, trained.mixture)
        if self.by_weights:
            found["accuracy under shared weights"] = trained.accuracy(mixture)
        return found


def draw(
    mixture: Mixture, space: SearchSpace, rng: random.Random, temperature: float = 1.0
) -> Genotype:
    """A cell of each kind, drawn by the weights of a mixture.

    Every edge's operation is drawn among those that can be final; the edges of a node are drawn
    without replacement, by the total weight of those operations. Both follow from the largest of
    log-weights with Gumbel noise (Kool et al., ICML 2019, https://arxiv.org/abs/1903.06059).

    Args:
        mixture: Weights, not negative.
        space: What it is a mixture over.
        rng: Two draws with the same state are equal.
        temperature: The weights count with a power of 1 / temperature.
    """
    generator = Generator().manual_seed(rng.getrandbits(63))

    def noisy(weights: Tensor) -> Tensor:
        logs = weights.double().cpu().log() / temperature
        return (logs + gumbel_noise(logs.shape, generator)).exp()

    cells = {kind: CellMixture(noisy(cell.edge_weighted)) for kind, cell in mixture.items()}
    return ArgMax()(Mixture(cells), space)


def log_likelihood(chosen: Mixture, mixture: Mixture) -> float:
    """Log of the product of the weights that a mixture gives to what a one-hot mixture runs."""
    total = 0.0
    for kind, cell in chosen.items():
        weights = mixture[kind].ops.double().cpu()[cell.ops.bool()]
        total += float(weights.log().sum()) if bool((weights > 0).all()) else -math.inf
    return total
