"""How a search is going, epoch by epoch: diagnostics, a warning, and when to stop."""

import logging
import math
from dataclasses import dataclass

from darts_gdas.nets import Mixture
from darts_gdas.runtime.checkpoint import State
from darts_gdas.search import ArchParameters, Relaxation
from darts_gdas.search.diagnostics import (
    curvature_growth,
    has_collapsed,
    is_undecided,
    parameter_free_share,
)
from darts_gdas.search.one_hot import one_hot
from darts_gdas.space import CellGenotype, Genotype, SearchSpace
from darts_gdas.tasks.diagnostics import Diagnostics
from darts_gdas.tasks.probing import SupernetProbe
from darts_gdas.tasks.remedies import CHANCE, UNCHANGED, UNDECIDED, without_effect

logger = logging.getLogger(__name__)

PATIENCE = 5
"""Epochs in a row after which a collapsed genotype is worth a warning."""

GROWTH = 0.75
"""Zela et al.'s ratio, for the warning of a search that does not stop by itself."""


@dataclass(frozen=True)
class End:
    """The early end of a search, as its monitor asks for it.

    Attributes:
        after: The last epoch, counted from 1.
        epoch: The epoch whose genotype is the answer, counted from 0.
        genotype: That genotype.
    """

    after: int
    epoch: int
    genotype: Genotype


class Monitor:
    """Follows a search; keeps what a resumed search must know.

    Args:
        diagnostics: What to measure.
        space: What is searched.
        probe: Measures.
        num_epochs: Epochs of the search.
        learns: Whether the alphas move. Where they do not, the present genotype says nothing.
        arch_warmup_epochs: Epochs at the beginning in which they stand still, nor does it then.
        remedies: What helps against a collapse, beside the method in use.

    Attributes:
        end: That the search shall stop early, and with what; or None.
        warnings: What the user was told, by topic; every topic is told once.
        warm_start: The genotype that the first alphas stand for, where a warm start set them.
        epochs_before: Epochs of the run before this search; they count where epochs are told.
        whole: The space that a run of several stages began with, which its cells are judged in;
            where this search's is smaller, the alphas have ruled candidates out.
    """

    def __init__(
        self,
        diagnostics: Diagnostics,
        space: SearchSpace,
        probe: SupernetProbe,
        *,
        num_epochs: int,
        learns: bool,
        arch_warmup_epochs: int = 0,
        remedies: str = "",
    ) -> None:
        self.diagnostics = diagnostics
        self.space = space
        self.probe = probe
        self.num_epochs = num_epochs
        self.learns = learns
        self.arch_warmup_epochs = arch_warmup_epochs
        self.remedies = remedies
        self.end: End | None = None
        self.warnings: dict[str, str] = {}
        self.warm_start: Genotype | None = None
        self.epochs_before = 0
        self.whole = space
        self._collapsed_since: dict[str, int] = {}
        self._history: dict[int, tuple[float, str]] = {}  # epoch: eigenvalue, genotype

    def observe(
        self, epoch: int, alphas: ArchParameters, relaxation: Relaxation, genotype: Genotype
    ) -> dict[str, float]:
        """Metrics after an epoch (counted from 0); may warn, may ask for an end."""
        metrics = {
            f"search/parameter_free_share_{kind}": parameter_free_share(genotype.cells[kind])
            for kind in self.space.cells
        }
        if self._is_due(self.diagnostics.gap_every, epoch):
            whole = self.probe.accuracy(relaxation.expected(alphas))
            metrics["search/discretisation_gap"] = whole - self.probe.accuracy(
                one_hot(genotype, self.space)
            )
        if self._is_due(self.diagnostics.eigenvalue_every, epoch):
            value = self.probe.curvature(
                alphas, relaxation, num_batches=self.diagnostics.eigenvalue_batches
            )
            metrics["search/eigenvalue"] = value
            self._history[epoch] = (value, genotype.to_json())
            self._judge_curvature(epoch)
        if self.learns:
            self._judge_cells(epoch, genotype, relaxation.expected(alphas))
        return metrics

    def remarks(self) -> dict[str, str]:
        """What the user should know at the end."""
        remarks = {}
        if self.end is not None:
            remarks["stopped"] = (
                f"after epoch {self.end.after} of {self.num_epochs}, for the curvature grew; "
                f"the genotype is that of epoch {self.end.epoch + 1}"
            )
        return remarks

    def begin(self, warm_start: Genotype | None) -> None:
        """Before the first step: warn of a stop that cannot come.

        Args:
            warm_start: The genotype of the first alphas, where a warm start has set them.
        """
        self.warm_start = warm_start
        asked, still = self.diagnostics, self.arch_warmup_epochs
        needed = asked.epochs_to_stop(still) if self.stops else 0
        if self.num_epochs < needed:
            count = self.num_epochs // asked.eigenvalue_every
            self.warn(
                "early stop",
                f"diagnostics.stop_below={asked.stop_below:g} cannot stop this search: it compares "
                f"two windows of {asked.stop_window} measurements"
                f"{f' after arch_warmup_epochs={still}' if still else ''} and returns no cell "
                f"before epoch {asked.stop_first_epoch + 1}, and epochs={self.num_epochs} with "
                f"diagnostics.eigenvalue_every={asked.eigenvalue_every} gives {count}. Set "
                f"epochs={needed} or more, or diagnostics.eigenvalue_every, "
                "diagnostics.stop_window or diagnostics.stop_first_epoch smaller",
            )

    @property
    def stops(self) -> bool:
        """Whether the search is to stop by itself."""
        return self.diagnostics.stop_below > 0

    def conclude(self, answer: Genotype, expected: Mixture | None) -> None:
        """Warn of what the answer is, however short the search was.

        What was told on the way of a cell that has not collapsed in the answer is withdrawn.

        Args:
            answer: The search's.
            expected: The expected mixture that it was derived from; None where the alphas did not
                choose it.
        """
        told = expected if self.num_epochs else None
        hardly_moved = told is not None and self._hardly_moved(told)
        for kind, cell in self.whole.cells.items():
            if not has_collapsed(answer.cells[kind], cell):
                if self.warnings.pop(f"{kind} cell", None):
                    logger.info("withdrawn: the %s cell of the answer has not collapsed", kind)
            elif self.learns and not hardly_moved:
                self._tell_collapse(kind, answer.cells[kind], "the search has ended in a collapse")
            else:
                text = f"{without_effect(kind, answer.cells[kind])}. {CHANCE}"
                self.warn(f"{kind} cell", text, anew=True)  # a collapse, on the way, is none
        if hardly_moved:
            self.warn("alphas", UNDECIDED)
        if told is not None and answer == self.warm_start:
            self.warn("alphas", UNCHANGED)

    def collapsed(self, answer: Genotype) -> dict[str, str] | None:
        """By kind, what is wrong with cells that have collapsed; None where no alphas learn."""
        kinds = [k for k, cell in self.whole.cells.items() if has_collapsed(answer.cells[k], cell)]
        return {k: without_effect(k, answer.cells[k]) for k in kinds} if self.learns else None

    def _is_due(self, every: int, epoch: int) -> bool:
        return every > 0 and (epoch + 1) % every == 0

    def _judge_curvature(self, epoch: int) -> None:
        window = self.diagnostics.stop_window
        for old in sorted(self._history)[: -2 * window]:
            del self._history[old]
        epochs = sorted(self._history)
        ratio = curvature_growth([self._history[e][0] for e in epochs], window=window)
        if math.isinf(ratio) or epochs[0] < self.arch_warmup_epochs:
            return  # alphas that stand still have no curvature that their steps have made
        before = epochs[window // 2]  # the middle of the older window
        limit, first = self.diagnostics.stop_below, self.diagnostics.stop_first_epoch
        if limit and ratio < limit and before >= first and self.end is None:
            self.end = End(epoch + 1, before, Genotype.from_json(self._history[before][1]))
        if not limit and ratio < GROWTH and before >= first:
            self.warn(
                "curvature",
                f"epoch {self.epochs_before + epoch + 1}: the curvature of the validation loss in "
                f"the alphas grows (by a factor of {1 / ratio:.2f} since epoch "
                f"{self.epochs_before + before + 1}), which announces a collapse. {self.remedies}",
            )

    def _hardly_moved(self, expected: Mixture) -> bool:
        """Whether the alphas have ruled nothing out, neither in this stage nor before it."""
        narrowed = self.warm_start is not None or self.space != self.whole
        return not narrowed and is_undecided(expected, self.space)

    def _judge_cells(self, epoch: int, genotype: Genotype, expected: Mixture) -> None:
        moving = epoch + 1 - self.arch_warmup_epochs  # epochs with arch steps so far
        led = moving > 0 and not self._hardly_moved(expected)
        for kind, cell in self.whole.cells.items():
            if not led or not has_collapsed(genotype.cells[kind], cell):
                self._collapsed_since.pop(kind, None)
                continue
            since = self._collapsed_since.setdefault(kind, epoch)
            # In the first quarter of theirs the alphas are hardly more than their beginnings.
            late = 4 * moving > self.num_epochs - self.arch_warmup_epochs
            if epoch - since + 1 >= PATIENCE and late:
                begin = f"epoch {self.epochs_before + epoch + 1}: the search is collapsing"
                self._tell_collapse(kind, genotype.cells[kind], begin, f"for {PATIENCE} epochs, ")

    def _tell_collapse(self, kind: str, cell: CellGenotype, begin: str, when: str = "") -> None:
        text = f"{begin}: {when}{without_effect(kind, cell)}. {self.remedies}"
        self.warn(f"{kind} cell", text)

    def warn(self, topic: str, text: str, *, anew: bool = False) -> None:
        """Once per topic and run; with `anew`, also in place of another text."""
        if topic not in self.warnings or (anew and self.warnings[topic] != text):
            self.warnings[topic] = text
            logger.warning(text)

    def state_dict(self) -> State:
        """Plain numbers and text."""
        return {
            "chosen": self.end and self.end.genotype.to_json(),
            "chosen_epoch": self.end and self.end.epoch,
            "stopped_after": self.end and self.end.after,
            "warnings": dict(self.warnings),
            "warm_start": self.warm_start and self.warm_start.to_json(),
            "collapsed_since": dict(self._collapsed_since),
            "history": dict(self._history),
        }

    def load_state_dict(self, state: State) -> None:
        """Inverse of `state_dict`."""
        after, epoch, chosen = (state[k] for k in ("stopped_after", "chosen_epoch", "chosen"))
        self.end = End(after, epoch, Genotype.from_json(chosen)) if chosen else None
        if "warnings" not in state:  # one warning for all kinds, as it was once
            old, since = state["warning"], state["collapsed_since"]
            kinds = {} if since is None else dict.fromkeys(self.space.cells, since)
            warnings = {f"{kind} cell": old for kind in list(self.space.cells)[:1] if old}
            state = {**state, "warnings": warnings, "collapsed_since": kinds}
        self.warnings = dict(state["warnings"])
        warm = state.get("warm_start")
        self.warm_start = Genotype.from_json(warm) if warm else None
        self._collapsed_since = dict(state["collapsed_since"])
        self._history = dict(state["history"])
