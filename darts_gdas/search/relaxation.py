"""Relaxations: from architecture parameters to the mixture that a supernet runs with."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.space import SearchSpace

PerEdge = Float[Tensor, "edges candidates"]
"""One number per edge and candidate, the edges of all kinds below each other."""

Relaxed = tuple[PerEdge, tuple[int, ...] | None]
"""Weights per candidate and, if sparse, the one to run per edge (on the host)."""


class ArchParameters(nn.Module):
    """The alphas: one logit per kind of cell, edge and candidate, and one per edge where asked.

    They live outside the supernet, so no weight optimiser, decay or clipping ever sees them.

    Args:
        space: Determines the shapes.
        scale: Standard deviation of the initial logits. Liu et al. use 1e-3.
        generator: CPU generator of the initial logits; None is torch's global one.
        edge_normalization: Weigh the edges into a node against each other too, by a softmax of
            logits of their own, under any relaxation of the candidates (PC-DARTS).

    Attributes:
        logits: Parameters [edges, candidates] by kind.
        edge_logits: Parameters [edges] by kind, called beta in PC-DARTS; empty without edge
            normalisation.

    Reference:
        Xu et al., ICLR 2020, https://arxiv.org/abs/1907.05737, eq. (3).
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        scale: float = 1e-3,
        generator: Generator | None = None,
        edge_normalization: bool = False,
    ) -> None:
        super().__init__()
        self.space = space
        self.logits = nn.ParameterDict()
        for kind, cell in space.cells.items():
            shape = (len(cell.edges), cell.num_candidates)
            self.logits[kind] = nn.Parameter(scale * torch.randn(shape, generator=generator))
            absent = [
                [i >= len(names) for i in range(cell.num_candidates)] for names in cell.candidates
            ]
            self.register_buffer(f"absent_{kind}", torch.tensor(absent), persistent=False)
        self.edge_logits = nn.ParameterDict()
        for kind, cell in space.cells.items() if edge_normalization else ():
            initial = scale * torch.randn(len(cell.edges), generator=generator)
            self.edge_logits[kind] = nn.Parameter(initial)

    def stacked(self) -> PerEdge:
        """All kinds below each other; a candidate that an edge does not have is -inf."""
        width = max(cell.num_candidates for cell in self.space.cells.values())
        rows = []
        for kind, logits in self.logits.items():
            masked = logits.masked_fill(self.get_buffer(f"absent_{kind}"), -torch.inf)
            rows.append(F.pad(masked, (0, width - masked.shape[1]), value=-torch.inf))
        return torch.cat(rows)

    def edge_weights(self, kind: str) -> Float[Tensor, " edges"] | None:
        """Softmax of the edge logits over the edges into each node; None without any."""
        if not self.edge_logits:
            return None
        cell = self.space.cells[kind]
        sizes = [len(cell.edges_into(node)) for node in range(cell.num_nodes)]
        return torch.cat([into.softmax(0) for into in self.edge_logits[kind].split(sizes)])

    def unstack(self, weights: Tensor, active: tuple[int, ...] | None = None) -> Mixture:
        """The mixture whose cells are the rows of `weights`, laid out as by `stacked`.

        It has the edge weights too.
        """
        cells, start = {}, 0
        for kind, cell in self.space.cells.items():
            rows = slice(start, start + len(cell.edges))
            cells[kind] = CellMixture(
                weights[rows, : cell.num_candidates],
                self.edge_weights(kind),
                active=None if active is None else active[rows],
            )
            start = rows.stop
        return Mixture(cells)


@dataclass
class Linear:
    """A number that moves from `start` at progress 0 to `end` at progress 1."""

    start: float
    end: float

    def __call__(self, progress: float) -> float:
        """The number at a progress in [0, 1]."""
        return self.start + progress * (self.end - self.start)


@dataclass
class Relaxation(ABC):
    """How continuous logits become the weights of the candidate operations.

    Its properties are asked of its two functions, so they hold for a class of one's own too.

    Attributes:
        has_softmax: Whether the logits enter a softmax, whatever else happens there.
        rows_exceed_one: Whether `completed` adds to the weights, so that no row is a distribution.
    """

    has_softmax: ClassVar[bool] = False
    rows_exceed_one: ClassVar[bool] = False

    @property
    def samples_one_path(self) -> bool:
        """Whether one candidate per edge runs, another in each step."""
        return self._sample()[1] is not None

    @property
    def uses_alphas(self) -> bool:
        """Whether a mixture has a derivative in the alphas."""
        return self._sample()[0].requires_grad

    @property
    def rows_are_distributions(self) -> bool:
        """Whether the weights of an edge sum to 1, so that its candidates compete."""
        return bool((self.expectation(torch.tensor([[1.0, 2.0]])).sum() - 1).abs() < 1e-4)

    def _sample(self) -> tuple[Tensor, tuple[int, ...] | None]:
        logits = torch.tensor([[1.0, 2.0]], requires_grad=True)
        return self.relax(logits, progress=0.0, rng=Generator())

    def __call__(
        self, arch: ArchParameters, *, progress: float = 0.0, rng: Generator | None = None
    ) -> Mixture:
        """A mixture for one step, differentiable in the alphas.

        One call serves all cells, all evaluations within a step and all ranks.

        Args:
            arch: The alphas.
            progress: Share of the search that is done, in [0, 1].
            rng: CPU generator of the noise; all ranks must hold it in the same state. None draws
                no noise: the most likely mixture.
        """
        weights, active = self.relax(arch.stacked(), progress=progress, rng=rng)
        return self.completed(arch.unstack(weights, active), arch.space, progress=progress)

    def completed(self, mixture: Mixture, space: SearchSpace, *, progress: float) -> Mixture:
        """The mixture with what a step adds beside the relaxed logits; by default nothing."""
        return mixture

    def fits(self, space: SearchSpace) -> str | None:
        """Why it has no effect in a space; None where it has one."""
        return None

    def expected(self, arch: ArchParameters) -> Mixture:
        """What the alphas stand for, detached: what is shown and what is discretised."""
        return self.mean(arch).detach()

    def mean(self, arch: ArchParameters) -> Mixture:
        """The same, differentiable in the alphas."""
        return arch.unstack(self.expectation(arch.stacked()))

    def settings(self, progress: float) -> dict[str, float]:
        """Numbers worth a curve at this progress, by name."""
        return {
            name: value(progress) for name, value in vars(self).items() if isinstance(value, Linear)
        }

    @abstractmethod
    def relax(self, logits: PerEdge, *, progress: float, rng: Generator | None) -> Relaxed:
        """Weights per candidate and, if sparse, the one to run per edge (on the host)."""

    @abstractmethod
    def expectation(self, logits: PerEdge) -> PerEdge:
        """What each candidate stands for, without noise: shown, and discretised.

        The weights' mean over the noise where that has a closed form. Differentiable in the
        logits. Rows are distributions over the candidates, except where candidates do not compete
        (`Sigmoid`).
        """


@dataclass
class Softmax(Relaxation):
    """Every candidate, weighted by a softmax over its edge (DARTS).

    Example:
        >>> weights, active = Softmax().relax(torch.zeros(1, 4), progress=0.0, rng=None)
        >>> weights
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])

    Reference:
        Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055, eq. (2).
    """

    has_softmax: ClassVar[bool] = True

    def relax(self, logits: PerEdge, *, progress: float, rng: Generator | None) -> Relaxed:
        """Softmax over each row; neither progress nor noise plays a part."""
        return logits.softmax(-1), None

    def expectation(self, logits: PerEdge) -> PerEdge:
        """The softmax itself."""
        return logits.softmax(-1)


@dataclass
class GumbelHard(Relaxation):
    """One sampled operation per edge, straight-through gradient (GDAS).

    The value is exactly one-hot; the gradient is that of the tempered softmax, through the
    sampled candidate alone, because only that one runs: dL/da = <G, o_k(x)> dp_k/da. So a step
    costs the time and memory of a single path. All ranks must hold `rng` in the same state, or
    they train different paths.

    Attributes:
        tau: Softmax temperature over progress. The paper anneals 10 to 0.1. It changes the
            gradient alone: the law of the sample is softmax(logits) at any temperature.

    Reference:
        Dong and Yang, CVPR 2019, https://arxiv.org/abs/1910.04465, section 3.2, eq. (3)-(6).
    """

    has_softmax: ClassVar[bool] = True
    tau: Linear = field(default_factory=lambda: Linear(10.0, 0.1))

    def __post_init__(self) -> None:
        check_temperature(self.tau)

    def relax(self, logits: PerEdge, *, progress: float, rng: Generator | None) -> Relaxed:
        """A one-hot row per edge; one transfer to the host tells which."""
        noisy = noisy_logits(logits, rng)
        soft = (noisy / self.tau(progress)).softmax(-1)
        chosen = noisy.argmax(-1)
        hard = F.one_hot(chosen, logits.shape[-1]).to(soft)
        # The bracket is exactly zero, so the value stays exactly one-hot.
        return hard + (soft - soft.detach()), tuple(chosen.tolist())

    def expectation(self, logits: PerEdge) -> PerEdge:
        """P(candidate sampled) = softmax(logits), by the Gumbel-max identity."""
        return logits.softmax(-1)


def check_temperature(tau: Linear) -> None:
    """Raise a `ValueError` where a temperature reaches zero."""
    if not all(0 < end < math.inf for end in (tau.start, tau.end)):
        raise ValueError(
            f"relaxation.tau must stay positive, got {tau.start} -> {tau.end}; "
            "at zero the softmax has no gradient. Use a small value such as 0.1"
        )


def check_strength(name: str, strength: Linear) -> None:
    """Raise a `ValueError` where a strength is negative somewhere, or zero throughout."""
    ends = strength.start, strength.end
    if not all(0 <= end < math.inf for end in ends) or max(ends) == 0:
        raise ValueError(
            f"{name} must not be negative and not zero throughout, got {ends[0]} -> {ends[1]}"
        )


def noisy_logits(logits: PerEdge, rng: Generator | None) -> PerEdge:
    """Log-probabilities plus Gumbel noise; the largest is a sample of the softmax."""
    noisy = logits.log_softmax(-1)
    if rng is not None:
        noise = gumbel_noise(logits.shape, rng).to(logits.dtype)
        noisy = noisy + noise.to(logits.device, non_blocking=True)
    return noisy


def gumbel_noise(shape: torch.Size, rng: Generator) -> Tensor:
    """Standard Gumbel noise in float64, finite by construction.

    A float64 uniform is a multiple of 2^-53 below 1; half a step more keeps it inside (0, 1), so
    -log(-log(u)) lies in [-3.6, 36.8].
    """
    uniform = torch.rand(shape, generator=rng, dtype=torch.float64) + 2.0**-54
    return -(-uniform.clamp(max=1 - 2.0**-53).log()).log()
