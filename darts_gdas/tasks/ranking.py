"""Ranking cells without training them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from darts_gdas.nets import Layout
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.images import Images
from darts_gdas.runtime.journal import Journal, Report
from darts_gdas.scoring.book import score_all
from darts_gdas.scoring.correlation import ranking
from darts_gdas.scoring.scores import Candidate, score
from darts_gdas.space import Genotype
from darts_gdas.space.networks import network_key, representative
from darts_gdas.tasks.batches import random_images


@dataclass(frozen=True)
class Scored:
    """Cells with their scores.

    Attributes:
        genotypes: The cells, each network once.
        means: Mean over repeats of each score, by name, one value per cell.
        errors: Standard errors of the means; nan with one repeat.
        ranked_by: Names of the scores that were asked for and tell the cells apart.
        total: Sum of the ranks of those; larger is better.
        left_out: What was warned of the other scores that were asked for.
    """

    genotypes: tuple[Genotype, ...]
    means: dict[str, list[float]]
    errors: dict[str, list[float]]
    ranked_by: tuple[str, ...]
    total: list[float]
    left_out: tuple[str, ...] = ()

    def order(self) -> list[int]:
        """Positions of the cells, the best first."""
        return sorted(range(len(self.genotypes)), key=lambda i: -self.total[i])


@dataclass(frozen=True)
class ScoreTask:
    """Score cells as small untrained networks.

    Repeat r takes one batch for all cells, and weights of its own for each network. Genotypes that
    are one network (see `space.networks`) have one score, whichever of them is asked for: what is
    measured is one spelling for all. Of several that are asked for the first is ranked.

    Attributes:
        genotypes: What to score.
        layout: The small network around the cells.
        images: Where batches are drawn from.
        normalize: Applied to them.
        batch_size: Images per batch.
        scores: Names of the scores that are ranked and added up.
        beside: Names of scores that are shown beside them.
        repeats: Networks and batches per cell.
        compute: Where.
        seed: Determines batches and weights.
    """

    genotypes: tuple[Genotype, ...]
    layout: Layout
    images: Images
    normalize: Normalize
    batch_size: int
    scores: tuple[str, ...]
    beside: tuple[str, ...]
    repeats: int
    compute: Compute
    seed: int

    def run(self, journal: Journal, report: Report | None = None) -> Scored:
        """Score what the journal does not know yet."""
        batches = [self.batch(repeat) for repeat in range(self.repeats)]
        names = list(dict.fromkeys((*self.scores, *self.beside)))

        def measure(genotype: Genotype, repeat: int) -> dict[str, float]:
            seed = derive_seed(self.seed, "score", network_key(genotype), repeat)
            return score(Candidate(genotype, self.layout, batches[repeat], seed), names)

        measured = [representative(genotype) for genotype in self.networks]
        rows = score_all(measured, self.repeats, journal, measure, report=report)
        values = {name: [[row[name] for row in cell] for cell in rows] for name in names}
        means = {name: [_mean(v) for v in cells] for name, cells in values.items()}
        errors = {name: [_standard_error(v) for v in cells] for name, cells in values.items()}
        found = ranking({name: means[name] for name in self.scores}, "cells")
        return Scored(self.networks, means, errors, *found)

    @cached_property
    def again(self) -> dict[int, int]:
        """Positions of genotypes that are networks of earlier ones, each with that one's."""
        first: dict[str, int] = {}
        found = [first.setdefault(network_key(g), i) for i, g in enumerate(self.genotypes)]
        return {i: place for i, place in enumerate(found) if place < i}

    @cached_property
    def networks(self) -> tuple[Genotype, ...]:
        """The genotypes, of several that are one network the first."""
        return tuple(g for i, g in enumerate(self.genotypes) if i not in self.again)

    def batch(self, repeat: int) -> Float[Tensor, "batch channels height width"]:
        """The images of a repeat, normalised, on the device."""
        return random_images(
            self.images,
            self.normalize,
            count=self.batch_size,
            seed=derive_seed(self.seed, "score images", repeat),
            device=self.compute.device,
        )


def _mean(values: Sequence[float]) -> float:
    return -math.inf if -math.inf in values else statistics.fmean(values)


def _standard_error(values: Sequence[float]) -> float:
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    return statistics.stdev(values) / len(values) ** 0.5
