"""Progressive searches: several searches one after the other, each with fewer candidates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from torch import Tensor

from darts_gdas.nets.dropout import SkipDropout
from darts_gdas.report.tensorboard import SearchView
from darts_gdas.runtime.checkpoint import State
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.task import Progress
from darts_gdas.search.restriction import most_probable
from darts_gdas.space import CellSpace, Genotype, SearchSpace
from darts_gdas.tasks.learning_rate import choose_learning_rate
from darts_gdas.tasks.search import SearchTask

DECAY = 0.2
"""How fast the dropout behind skip connections falls, per epoch; of P-DARTS's code."""


@dataclass
class Stage:
    """One stage of a progressive search: what is different in it.

    Not frozen, because `stages.0.epochs=5` on the command line changes one.

    Attributes:
        epochs: Passes over the weights' half.
        candidates: At most how many stay on each edge; null keeps all. The first stage has all.
        layers: Cells of its network; null is `net.layers`.
        channels: Of its first cells; null is `net.channels`.
        partial_channels: K: 1 / K of the channels runs through the candidates.
        arch_warmup_epochs: Epochs at its beginning in which the alphas stand still.
        skip_dropout: Dropout behind skip connections at its beginning, in [0, 1).
    """

    epochs: int
    candidates: int | None = None
    layers: int | None = None
    channels: int | None = None
    partial_channels: int = 1
    arch_warmup_epochs: int = 0
    skip_dropout: float = 0.0

    @property
    def network(self) -> dict[str, int]:
        """What its outer network has in place of the search's."""
        sizes = {"layers": self.layers, "channels": self.channels}
        return {name: size for name, size in sizes.items() if size is not None}

    def dropout_rate(self, epoch: int) -> float:
        """Dropout behind skip connections in an epoch of this stage, counted from 0.

        It falls linearly while the weights learn alone. When the alphas begin to move it begins
        anew, and falls exponentially. The paper says that it decays; this is how its authors' code
        does it.

        Example:
            >>> stage = Stage(epochs=25, arch_warmup_epochs=10, skip_dropout=0.5)
            >>> [round(stage.dropout_rate(epoch), 3) for epoch in (0, 9, 10, 24)]
            [0.48, 0.3, 0.5, 0.03]
        """
        if epoch < self.arch_warmup_epochs:
            return self.skip_dropout * (self.epochs - epoch - 1) / self.epochs
        return self.skip_dropout * math.exp(-DECAY * (epoch - self.arch_warmup_epochs))


class BuildStage(Protocol):
    """Builds the search that a stage is."""

    def __call__(self, index: int, space: SearchSpace) -> SearchTask:
        """The search of a stage, counted from 0, over what is left of the space."""
        ...


class StagedSearchTask:
    """A search in stages, which the loop runs as one.

    Between two stages every edge keeps its most probable candidates; weights, alphas, their
    optimisers and all that depends on progress begin anew. Each stage is a whole `SearchTask` with
    epochs of its own. The next one begins with the first step after a stage, so that what follows
    an epoch, and a checkpoint at the boundary, still sees the stage that has ended.

    Args:
        space: What the first stage searches.
        stages: In order.
        build: Builds each stage's search, a function of its arguments.

    Attributes:
        current: The present stage's search.
        index: Which stage that is, from 0.

    Reference:
        Chen et al., ICCV 2019, https://arxiv.org/abs/1904.12760, section 3.2; Chen et al., ICLR
        2021, https://arxiv.org/abs/2006.10355 (the progressive scheme of DrNAS).
    """

    selection_metric = SearchTask.selection_metric

    def __init__(self, space: SearchSpace, stages: Sequence[Stage], build: BuildStage) -> None:
        assert stages
        self.space = space
        self.stages = tuple(stages)
        self._build = build
        self._begin(0, space)
        self.num_epochs = self._epochs_before(len(self.stages))
        self.steps_per_epoch = self.current.steps_per_epoch

    @property
    def compute(self) -> Compute:
        """Device and number format."""
        return self.current.compute

    @property
    def data_digest(self) -> str:
        """Tells one data set from another."""
        return self.current.data_digest

    @property
    def is_finished(self) -> bool:
        """Whether the present stage has ended the search."""
        return self.current.is_finished

    def train_step(self, progress: Progress) -> Mapping[str, tuple[Tensor, int]]:
        """One step of the stage that the progress lies in, which may begin with it."""
        index, local = self._locate(progress)
        if index != self.index:
            self._advance(index)
        rate, supernet = self.stages[index].dropout_rate(local.epoch), self.current.supernet
        if rate > 0:
            seed = derive_seed(self.current.seed, "skip dropout", progress.global_step)
            supernet.skip_dropout = SkipDropout(rate, seed)
        metrics = self.current.train_step(local)
        supernet.skip_dropout = None  # whatever is measured sees all of the network
        return metrics

    def evaluate(self, progress: Progress) -> dict[str, float]:
        """What the stage's search says, and where the stages stand."""
        index, local = self._locate(progress)
        metrics = self.current.evaluate(local) | {"search/stage": float(index + 1)}
        if any(stage.skip_dropout for stage in self.stages):
            metrics["search/skip_dropout"] = self.stages[index].dropout_rate(local.epoch)
        return metrics

    def genotype(self) -> Genotype:
        """What the present stage's alphas stand for now."""
        return self.current.genotype()

    def view(self) -> SearchView:
        """What there is to see now, in the first stage's space: what was dropped has weight 0."""
        return in_whole_space(self.current.view(), self.space)

    def shared(self) -> list[Tensor]:
        """What must be the same on all ranks: the stage's alphas."""
        return self.current.shared()

    def state_dict(self) -> State:
        """Which stage, over which candidates, and its state."""
        cells = self.current.space.cells
        return {
            "stage": self.index,
            "candidates": {kind: [list(row) for row in c.candidates] for kind, c in cells.items()},
            "search": self.current.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Inverse of `state_dict`; builds the stage that it is of."""
        kept = {kind: dict(enumerate(rows)) for kind, rows in state["candidates"].items()}
        self._begin(state["stage"], self.space.restrict(kept))
        self.current.load_state_dict(state["search"])

    def _locate(self, progress: Progress) -> tuple[int, Progress]:
        """The stage that a progress lies in, and the progress within it."""
        ends = [self._epochs_before(i + 1) for i in range(len(self.stages))]
        index = next(i for i, end in enumerate(ends) if progress.epoch < end)
        epoch = progress.epoch - self._epochs_before(index)
        return index, replace(progress, epoch=epoch, num_epochs=self.stages[index].epochs)

    def _epochs_before(self, index: int) -> int:
        return sum(stage.epochs for stage in self.stages[:index])

    def _advance(self, index: int) -> None:
        """Go on to the next stage, with the candidates that this one found most probable."""
        assert index == self.index + 1
        before, space, count = self.current, self.current.space, self.stages[index].candidates
        if count is not None:
            expected = before.method.relaxation.expected(before.arch)
            space = most_probable(expected, space, count=count)
        self._begin(index, space)
        self.current.monitor.warning = before.monitor.warning  # once per run
        if before.method.optimizer.rate is None:  # measured, as in the first stage
            self.current.learning_rate = self.compute.ranks.from_first(self._measured_rate)

    def _measured_rate(self) -> float:
        choose_learning_rate(self.current)
        return self.current.learning_rate

    def _begin(self, index: int, space: SearchSpace) -> None:
        self.index = index
        self.current = self._build(index, space)
        self.current.monitor.epochs_before = self._epochs_before(index)


def present(task: SearchTask | StagedSearchTask) -> SearchTask:
    """The search that is under way: the task itself, or that of its present stage."""
    return task.current if isinstance(task, StagedSearchTask) else task


def in_whole_space(view: SearchView, space: SearchSpace) -> SearchView:
    """A view of a restricted space as one of the whole space, whose other candidates have 0."""
    probabilities = {
        kind: _widened(rows, view.space.cells[kind], space.cells[kind])
        for kind, rows in view.probabilities.items()
    }
    alphas = {
        kind: _widened(rows, view.space.cells[kind], space.cells[kind], blank=np.nan)
        for kind, rows in view.alphas.items()
    }
    return replace(view, space=space, probabilities=probabilities, alphas=alphas)


def _widened(
    rows: np.ndarray, narrow: CellSpace, whole: CellSpace, *, blank: float = 0.0
) -> np.ndarray:
    """Values [edges, candidates] in the columns of the whole space."""
    wide = np.full((len(rows), whole.num_candidates), blank, dtype=rows.dtype)
    for edge, names in enumerate(narrow.candidates):
        columns = [whole.candidates[edge].index(name) for name in names]
        wide[edge, columns] = rows[edge, : len(names)]
    return wide
