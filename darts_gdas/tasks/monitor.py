"""How a search is going, epoch by epoch: diagnostics, a warning, and when to stop."""

import logging
import math
from dataclasses import dataclass

from darts_gdas.runtime.checkpoint import State
from darts_gdas.search import ArchParameters, Relaxation
from darts_gdas.search.diagnostics import curvature_growth, has_collapsed, parameter_free_share
from darts_gdas.search.one_hot import one_hot
from darts_gdas.space import Genotype, SearchSpace
from darts_gdas.tasks.probing import SupernetProbe

logger = logging.getLogger(__name__)

PATIENCE = 5
"""Epochs in a row after which a collapsed genotype is worth a warning."""

GROWTH = 0.75
"""Zela et al.'s ratio, for the warning of a search that does not stop by itself."""

REMEDIES = (
    "Such cells look good under shared weights and retrain badly. What helps: "
    "method=robust_darts (stops in time, decays the weights more), method=sdarts_rs or sdarts_adv "
    "(trains the weights under disturbed mixtures), method=beta_darts (holds the alphas together) "
    "or method=darts_pt (asks the trained supernet, not the alphas, which operation to keep)"
)


@dataclass
class Diagnostics:
    """What is measured while a search runs, and whether it stops by itself.

    Shares of operations cost nothing and are always there. Nothing that is measured changes the
    search; only `stop_below` ends it.

    Attributes:
        eigenvalue_every: Epochs between two measurements of the dominant eigenvalue of the
            Hessian of the validation loss in the alphas; 0 never measures it. Each takes the
            time of 5 to 10 training steps, and the memory of a double backward pass.
        eigenvalue_batches: Batches of the arch half to measure it on; memory grows with them.
        gap_every: Epochs between two measurements of the discretisation gap: accuracy of the
            mixture minus accuracy of its genotype, both under shared weights; 0 never does.
        stop_below: Stop when the curvature was so much smaller before: the ratio of its mean over
            a window to its mean over the next one. RobustDARTS takes 0.75; 0 never stops.
        stop_window: Measurements in a window; RobustDARTS takes 5.
        stop_first_epoch: Return no architecture of an earlier epoch, counted from 0. The
            authors' code takes 10.

    Reference:
        Zela et al., ICLR 2020, https://arxiv.org/abs/1909.09656, section 4.3.
    """

    eigenvalue_every: int = 0
    eigenvalue_batches: int = 1
    gap_every: int = 0
    stop_below: float = 0.0
    stop_window: int = 5
    stop_first_epoch: int = 10

    def __post_init__(self) -> None:
        minima = {
            "eigenvalue_every": 0,
            "eigenvalue_batches": 1,
            "gap_every": 0,
            "stop_window": 1,
            "stop_first_epoch": 0,
        }
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise ValueError(
                    f"diagnostics.{name} must be at least {minimum}, got {getattr(self, name)}"
                )
        if not 0 <= self.stop_below <= 1:
            raise ValueError(f"diagnostics.stop_below must lie in 0..1, got {self.stop_below}")
        if self.stop_below and not self.eigenvalue_every:
            raise ValueError(
                "diagnostics.stop_below has no effect without the eigenvalue; set "
                "diagnostics.eigenvalue_every=1"
            )


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

    Attributes:
        end: That the search shall stop early, and with what; or None.
        warning: What the user was told, or "".
        epochs_before: Epochs of the run before this search; they count where epochs are told.
    """

    def __init__(
        self,
        diagnostics: Diagnostics,
        space: SearchSpace,
        probe: SupernetProbe,
        *,
        num_epochs: int,
        learns: bool,
    ) -> None:
        self.diagnostics = diagnostics
        self.space = space
        self.probe = probe
        self.num_epochs = num_epochs
        self.learns = learns
        self.end: End | None = None
        self.warning = ""
        self.epochs_before = 0
        self._collapsed_since: int | None = None
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
            self._judge_cells(epoch, genotype)
        return metrics

    def remarks(self) -> dict[str, str]:
        """What the user should know at the end."""
        remarks = {}
        if self.end is not None:
            remarks["stopped"] = (
                f"after epoch {self.end.after} of {self.num_epochs}, for the curvature grew; "
                f"the genotype is that of epoch {self.end.epoch + 1}"
            )
        if self.warning:
            remarks["warning"] = self.warning
        return remarks

    def _is_due(self, every: int, epoch: int) -> bool:
        return every > 0 and (epoch + 1) % every == 0

    def _judge_curvature(self, epoch: int) -> None:
        window = self.diagnostics.stop_window
        for old in sorted(self._history)[: -2 * window]:
            del self._history[old]
        epochs = sorted(self._history)
        ratio = curvature_growth([self._history[e][0] for e in epochs], window=window)
        if math.isinf(ratio):
            return
        before = epochs[window // 2]  # the middle of the older window
        limit, first = self.diagnostics.stop_below, self.diagnostics.stop_first_epoch
        if limit and ratio < limit and before >= first and self.end is None:
            genotype = Genotype.from_json(self._history[before][1])
            self.end = End(epoch + 1, before, genotype)
        if not limit and ratio < GROWTH and before >= first:
            self._warn(
                f"epoch {self.epochs_before + epoch + 1}: the curvature of the validation loss in "
                f"the alphas grows (by a factor of {1 / ratio:.2f} since epoch "
                f"{self.epochs_before + before + 1}), which announces a collapse"
            )

    def _judge_cells(self, epoch: int, genotype: Genotype) -> None:
        if not has_collapsed(genotype, dict(self.space.cells)):
            self._collapsed_since = None
            return
        if self._collapsed_since is None:
            self._collapsed_since = epoch
        # In the first quarter the alphas are hardly more than their random beginnings.
        if epoch - self._collapsed_since + 1 >= PATIENCE and 4 * (epoch + 1) > self.num_epochs:
            self._warn(
                f"epoch {self.epochs_before + epoch + 1}: the search is collapsing, for {PATIENCE} "
                "epochs nearly all operations of its genotype have been skips and pooling"
            )

    def _warn(self, text: str) -> None:
        """Once per run, whatever the reason."""
        if not self.warning:
            self.warning = f"{text}. {REMEDIES}"
            logger.warning(self.warning)

    def state_dict(self) -> State:
        """Plain numbers and text."""
        return {
            "chosen": self.end and self.end.genotype.to_json(),
            "chosen_epoch": self.end and self.end.epoch,
            "stopped_after": self.end and self.end.after,
            "warning": self.warning,
            "collapsed_since": self._collapsed_since,
            "history": dict(self._history),
        }

    def load_state_dict(self, state: State) -> None:
        """Inverse of `state_dict`."""
        after, epoch, chosen = (state[k] for k in ("stopped_after", "chosen_epoch", "chosen"))
        self.end = End(after, epoch, Genotype.from_json(chosen)) if chosen else None
        self.warning = state["warning"]
        self._collapsed_since = state["collapsed_since"]
        self._history = dict(state["history"])
