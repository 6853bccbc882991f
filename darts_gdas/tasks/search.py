"""A search as the loop runs it: in stages, of which a plain search has one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from darts_gdas.nets.cost_table import is_largest
from darts_gdas.nets.dropout import SkipDropout
from darts_gdas.report.view import SearchView
from darts_gdas.runtime.checkpoint import State
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.task import Progress
from darts_gdas.scoring.table import AccuracyTable
from darts_gdas.search.relaxation import ArchParameters
from darts_gdas.search.restriction import most_probable
from darts_gdas.space import Genotype, SearchSpace
from darts_gdas.tasks.initial import choose_learning_rate
from darts_gdas.tasks.method import Stage
from darts_gdas.tasks.remedies import of_size
from darts_gdas.tasks.stage import StageSearch

BuildStage = Callable[[int, SearchSpace], StageSearch]
"""(index of a stage, from 0; what is left of the space) -> its search, a new one in each call."""


class SearchTask:
    """Search for a genotype, in one stage or in several.

    Between two stages every edge keeps its most probable candidates; weights, alphas, their
    optimisers and all that depends on progress begin anew. The next stage begins with the first
    step after the one before, so that what follows an epoch, and a checkpoint at the boundary,
    still sees the stage that has ended.

    Args:
        space: What the first stage searches.
        stages: In order.
        build: Builds each stage's search.
        known: What cells of the space reach; evaluation then says what the present one does.

    Attributes:
        current: The present stage's search.
        index: Which stage that is, from 0.
        answer: The genotype that was chosen in place of the one the alphas stand for.

    Reference:
        Chen et al., ICCV 2019, https://arxiv.org/abs/1904.12760, section 3.2; Chen et al., ICLR
        2021, https://arxiv.org/abs/2006.10355 (the progressive scheme of DrNAS).
    """

    selection_metric = "validation/accuracy"

    def __init__(
        self,
        space: SearchSpace,
        stages: Sequence[Stage],
        build: BuildStage,
        known: AccuracyTable | None = None,
    ) -> None:
        assert stages
        self.space = space
        self.stages = tuple(stages)
        self.known = known
        self.answer: Genotype | None = None
        self._build = build
        self._begin(0, space)
        self.num_epochs = self._epochs_before(len(self.stages))
        self.steps_per_epoch = self.current.steps_per_epoch

    @property
    def compute(self) -> Compute:
        """Device and number format."""
        return self.current.compute

    @property
    def arch(self) -> ArchParameters:
        """The alphas of the present stage."""
        return self.current.alphas

    @property
    def seed(self) -> int:
        """That of the present stage."""
        return self.current.seed

    @property
    def data_digest(self) -> str:
        """Tells one data set from another."""
        return self.current.data.digest

    @property
    def is_finished(self) -> bool:
        """Whether the diagnostics have ended the search."""
        return self.current.monitor.end is not None

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
        """What the stage's search says, where the stages stand, and what is known of its cell."""
        index, local = self._locate(progress)
        metrics = self.current.evaluate(local)
        self._heed_monitor()
        if self.known is not None:
            standing = self.known.standing(self.current.genotype())
            metrics |= {f"benchmark/{name}": value for name, value in standing.items()}
        if len(self.stages) > 1:
            metrics["search/stage"] = float(index + 1)
        if any(stage.skip_dropout for stage in self.stages):
            metrics["search/skip_dropout"] = self.stages[index].dropout_rate(local.epoch)
        return metrics

    def genotype(self) -> Genotype:
        """The search's answer; until there is one, what the present stage's alphas stand for."""
        return self.answer or self.current.genotype()

    def warnings(self) -> list[str]:
        """All that the user is warned of, at the end of the search."""
        search = self.current
        by_alphas = search.monitor.learns and not search.method.discretizer.asks_weights
        search.monitor.conclude(self.genotype(), search.expected() if by_alphas else None)
        if is_largest(self.genotype(), self.space, search.supernet.layout):
            search.monitor.warn("size", of_size(search.method))
        return list(search.monitor.warnings.values())

    def view(self) -> SearchView:
        """What there is to see now, in the first stage's space: what was dropped has weight 0."""
        return self.current.view(self.genotype(), self.space)

    def shared(self) -> list[Tensor]:
        """What must be the same on all ranks: the stage's alphas."""
        return list(self.arch.parameters())

    def state_dict(self) -> State:
        """The state of the present stage; of several, also which it is, over which candidates.

        An answer is not part of it: it follows from the monitor's state, or is sought at the end.
        """
        state = self.current.state_dict()
        if len(self.stages) == 1:
            return state
        cells = self.current.space.cells
        return {
            "stage": self.index,
            "candidates": {kind: [list(row) for row in c.candidates] for kind, c in cells.items()},
            "search": state,
        }

    def load_state_dict(self, state: State) -> None:
        """Inverse of `state_dict`; builds the stage that it is of."""
        if "stage" in state:
            kept = {kind: dict(enumerate(rows)) for kind, rows in state["candidates"].items()}
            self._begin(state["stage"], self.space.restrict(kept))
            state = state["search"]
        self.current.load_state_dict(state)
        self._heed_monitor()

    def _heed_monitor(self) -> None:
        end = self.current.monitor.end
        self.answer = end and end.genotype

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
            space = most_probable(before.expected(), space, count=count)
        self._begin(index, space)
        self.current.monitor.warnings = dict(before.monitor.warnings)  # once per run
        if before.method.optimizer.rate is None:  # measured, as in the first stage
            self.current.learning_rate = self.compute.ranks.from_first(self._measured_rate)

    def _measured_rate(self) -> float:
        choose_learning_rate(self.current)
        return self.current.learning_rate

    def _begin(self, index: int, space: SearchSpace) -> None:
        self.index = index
        self.current = self._build(index, space)
        self.current.monitor.epochs_before = self._epochs_before(index)
        self.current.monitor.whole = self.space
