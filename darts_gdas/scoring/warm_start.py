"""Warm starts: the first alphas of a search, from scores of untrained networks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.nets import Layout
from darts_gdas.reasons import check_minima
from darts_gdas.runtime.journal import Journal
from darts_gdas.scoring.book import score_all
from darts_gdas.scoring.correlation import ranking
from darts_gdas.scoring.effects import Effects, main_effects, sample_balanced
from darts_gdas.scoring.pruning import prune
from darts_gdas.scoring.scores import START_SCORES, Candidate, check_scores, score
from darts_gdas.scoring.supernets import Measurement
from darts_gdas.space import Genotype, SearchSpace

Report = Callable[[str, int, int], None]
"""Is told a phase, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Setting:
    """What a warm start works with.

    Attributes:
        space: The cells.
        layout: Makes the small outer network around them, a function of its number of channels.
        batch: Normalised images, as many as asked for, a function of that number.
        seed: Determines everything random.
        journal: Where what is measured is kept, so that an interrupted run goes on.
        report: Progress.
    """

    space: SearchSpace
    layout: Callable[[int], Layout]
    batch: Callable[[int], Float[Tensor, "batch channels height width"]]
    seed: int
    journal: Journal
    report: Report


@dataclass(frozen=True, eq=False)
class FirstAlphas:
    """Where a search begins.

    Attributes:
        logits: Per kind [edges, candidates].
        effects: What they follow from, where they follow from effects.
        genotype: The cell they stand for, where there is one.
        warnings: What was warned of on the way.
    """

    logits: Mapping[str, Float[Tensor, "edges candidates"]]
    effects: Effects | None = None
    genotype: Genotype | None = None
    warnings: Sequence[str] = ()


@dataclass
class WarmStart(ABC):
    """How a search gets its first alphas.

    Attributes:
        finds_a_cell: Whether they stand for one cell, which may be the answer without training.
    """

    finds_a_cell: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, setting: Setting) -> FirstAlphas | None:
        """The first alphas; None leaves the random ones."""


@dataclass
class NoWarmStart(WarmStart):
    """The papers' start: alphas near zero, every candidate equally likely."""

    def __call__(self, setting: Setting) -> None:
        """Nothing to do."""
        return None


@dataclass
class NtkWarmStart(WarmStart):
    """Sampled main effects of training-free scores, the neural tangent kernel's first.

    Cells are drawn in balance, scored as small untrained networks, and the scores' ranks regressed
    on their operations (`scoring/effects.py`). The effects, scaled and capped, are the first
    alphas of any method: GDAS samples by them, DARTS mixes by them.

    Attributes:
        samples: Cells to score. With fewer than 100 single effects are uncertain.
        scores: What to score by, see `darts_gdas.scoring.scores`; ranks are added up.
        batch_size: Images of a score.
        channels: Channels of the small networks' first cells.
        ridge: The regression's ridge.
        temperature: The alphas have a standard deviation of 1 / temperature.
        cap: Largest absolute alpha.
    """

    samples: int = 100
    scores: list[str] = field(default_factory=lambda: list(START_SCORES))
    batch_size: int = 32
    channels: int = 8
    ridge: float = 3.0
    temperature: float = 1.0
    cap: float = 2.0

    def __post_init__(self) -> None:
        check_scores(self.scores, "warm_start.scores")
        _check_numbers(self, ("ridge", "temperature", "cap"), samples=10, batch_size=2, channels=2)

    def __call__(self, setting: Setting) -> FirstAlphas:
        """Score `samples` cells and turn the effects into alphas."""
        genotypes = sample_balanced(setting.space, self.samples, setting.seed)
        layout, images = setting.layout(self.channels), setting.batch(self.batch_size)
        seeds = {genotype: setting.seed + i for i, genotype in enumerate(genotypes)}

        def measure(genotype: Genotype, repeat: int) -> dict[str, float]:
            return score(Candidate(genotype, layout, images, seeds[genotype]), self.scores)

        rows = score_all(
            genotypes,
            1,
            setting.journal,
            measure,
            report=lambda done, total: setting.report("scoring cells", done, total),
        )
        columns = {name: [row[0][name] for row in rows] for name in self.scores}
        found = ranking(columns, "drawn cells")
        effects = main_effects(setting.space, genotypes, found.total, ridge=self.ridge)
        logits = effects.logits(temperature=self.temperature, cap=self.cap)
        return FirstAlphas(logits, effects, warnings=found.left_out)


@dataclass
class TeNasWarmStart(WarmStart):
    """Training-free pruning to one cell (TE-NAS, `scoring/pruning.py`), and alphas that favour it.

    With `epochs=0` the cell is the search's answer.

    Attributes:
        repeats: Networks with weights of their own per measurement. The paper takes 3.
        per_round: Candidates that an edge loses per round. The paper takes 3 on CIFAR-10.
        batch_size: Images of the kernel. The paper takes 14.
        channels: Channels of the supernet. The paper takes 1; two paths need 2.
        region_samples: Inputs to count linear regions with. The paper takes 3000.
        strength: Alpha of the chosen operations; those of an edge that was pruned get half of it.

    Reference:
        Chen, Gong, Wang, ICLR 2021, https://arxiv.org/abs/2102.11535.
    """

    finds_a_cell: ClassVar[bool] = True
    repeats: int = 3
    per_round: int = 3
    batch_size: int = 14
    channels: int = 2
    region_samples: int = 3000
    strength: float = 2.0

    def __post_init__(self) -> None:
        minima = {"repeats": 1, "per_round": 1, "batch_size": 2, "channels": 2, "region_samples": 2}
        _check_numbers(self, ("strength",), **minima)

    def __call__(self, setting: Setting) -> FirstAlphas:
        """Prune the space to one cell per kind."""
        measurement = Measurement(
            setting.layout(self.channels),
            setting.batch(self.batch_size),
            self.repeats,
            self.region_samples,
            setting.seed,
        )
        pruned = prune(
            setting.space,
            measurement,
            per_round=self.per_round,
            journal=setting.journal,
            report=setting.report,
        )
        logits = {}
        for kind, cell in setting.space.cells.items():
            alphas = torch.zeros(len(cell.edges), cell.num_candidates, dtype=torch.float64)
            for edge, names in enumerate(cell.candidates):
                name, is_kept = pruned.operations[kind][edge], pruned.kept[kind][edge]
                alphas[edge, names.index(name)] = self.strength * (1.0 if is_kept else 0.5)
            logits[kind] = alphas
        return FirstAlphas(logits, genotype=pruned.genotype, warnings=pruned.warnings)


def _check_numbers(start: WarmStart, positive: Sequence[str], **minima: int) -> None:
    """Raise a `ValueError` unless each number is positive, or as large as it must be."""
    check_minima(start, "warm_start.", minima)
    for name in positive:
        if not getattr(start, name) > 0:
            raise ValueError(f"warm_start.{name} must be positive, got {getattr(start, name)}")
