"""Searches over whole cells: what judges a cell, and what is common to all that ask it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from darts_gdas.search.one_hot import one_hot
from darts_gdas.search.selection import Selection, TrainedSupernet
from darts_gdas.space import Genotype


@dataclass
class Judge(ABC):
    """What a cell is worth; larger is better.

    Attributes:
        needs_training: Whether it asks the supernet's weights.
        needs_table: Whether it asks the known accuracies.
    """

    needs_training: ClassVar[bool] = False
    needs_table: ClassVar[bool] = False

    @property
    def asked_scores(self) -> tuple[str, ...]:
        """The scores of untrained networks that it asks for."""
        return ()

    @abstractmethod
    def __call__(self, genotype: Genotype, trained: TrainedSupernet) -> float:
        """The worth; -inf where a cell has none."""


@dataclass
class SharedWeights(Judge):
    """Validation accuracy under the supernet's weights, in [0, 1]."""

    needs_training: ClassVar[bool] = True

    def __call__(self, genotype: Genotype, trained: TrainedSupernet) -> float:
        """One pass over the arch half."""
        return trained.accuracy(one_hot(genotype, trained.space))


@dataclass
class Known(Judge):
    """Known accuracy after training, in per cent: what a search could find if it had the time."""

    needs_table: ClassVar[bool] = True

    def __call__(self, genotype: Genotype, trained: TrainedSupernet) -> float:
        """A look into the table."""
        assert trained.known is not None, "the configuration asks for a table"
        return trained.known(genotype)


@dataclass
class Untrained(Judge):
    """A score of the cell as a small untrained network.

    Attributes:
        score: Which one, see `darts_gdas.scoring.scores`.
        repeats: Networks and batches whose scores are averaged.
    """

    score: str = "naswot"
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"discretizer.judge.repeats must be at least 1, got {self.repeats}")

    @property
    def asked_scores(self) -> tuple[str, ...]:
        """The one."""
        return (self.score,)

    def __call__(self, genotype: Genotype, trained: TrainedSupernet) -> float:
        """The mean."""
        return trained.mean_scores(genotype, self.asked_scores, self.repeats)[self.score]


class Trials:
    """Cells as they are judged: each one once, however often it is asked for.

    Args:
        judge: Says what a cell is worth.
        trained: What the judge asks.
        count: How many questions there will be.
    """

    def __init__(self, judge: Judge, trained: TrainedSupernet, count: int) -> None:
        self.judge = judge
        self.trained = trained
        self.count = count
        self.asked = 0
        self._worth: dict[Genotype, float] = {}
        trained.report(0, count)

    def __call__(self, genotype: Genotype) -> float:
        """What a cell is worth."""
        if genotype not in self._worth:
            self._worth[genotype] = self.judge(genotype, self.trained)
        self.asked += 1
        self.trained.report(self.asked, self.count)
        return self._worth[genotype]

    @property
    def best(self) -> Genotype:
        """The best cell so far; of equal ones the first."""
        return max(self._worth, key=self._worth.__getitem__)


@dataclass
class JudgedSelection(Selection, ABC):
    """A selection that asks a judge about one cell after the other, and returns the best.

    Attributes:
        count: How many cells it asks about; one that comes again counts again.
        judge: Says what a cell is worth; None is `SharedWeights`.
    """

    count: int = 200
    judge: Judge | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"discretizer.count must be at least 1, got {self.count}")

    @property
    def the_judge(self) -> Judge:
        """The judge that is asked."""
        return self.judge or SharedWeights()

    @property
    def needs_no_training(self) -> bool:
        """Whether the judge asks no weights."""
        return not self.the_judge.needs_training

    @property
    def needs_table(self) -> bool:
        """Whether the judge asks the known accuracies."""
        return self.the_judge.needs_table

    @property
    def asked_scores(self) -> tuple[str, ...]:
        """The scores of untrained networks that the judge asks for."""
        return self.the_judge.asked_scores

    def select(self, trained: TrainedSupernet) -> Genotype:
        """The best of all cells that were asked about."""
        trials = Trials(self.the_judge, trained, self.count)
        self.explore(trials)
        return trials.best

    @abstractmethod
    def explore(self, trials: Trials) -> None:
        """Ask about `count` cells of `trials.trained.space`, each time knowing the answers."""
