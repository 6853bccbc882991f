"""Costs: pressure on the alphas, and a limit to what the answer costs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from darts_gdas.nets import CostTable, Mixture, Quantity, build_cost_table
from darts_gdas.search.affordable import cheapest, most_probable
from darts_gdas.search.penalties import Penalty, Surroundings
from darts_gdas.search.relaxation import ArchParameters
from darts_gdas.space import Genotype

_ROUNDING = 1e-12
"""Costs are sums, whose last digits depend on the order."""

DEFAULT_SHARE = 0.6
"""Chosen on NAS-Bench-201 among tenths, seeds 0 to 4: docs/benchmarks.md, "The default"."""

_MADE = {"omegaconf_ignore": True}
"""Of what is no setting."""


@dataclass
class Cost(Penalty):
    """Presses the mean cost of derived networks below a target: weight * max(0, cost/target - 1).

    The cost is that of the network which the mean mixture stands for, fixed parts included, so it
    compares with the counted cost of a finished one. Below the target it is silent. A mean
    below the target does not make the cell of the largest weights meet it: where that one does
    not, the answer is the most probable of those that do (`most_probable`), and that have no more
    skip connections than `discretizer.max_skips`. Of the selections at the end only `BestOfDraws`
    asks what a cell costs, so the others are refused.

    Attributes:
        target: What the network may cost: parameters, multiply-adds per image, or milliseconds
            per image, measured on this run's device. None takes `share`, else it goes before it.
        quantity: Which of the three.
        weight: The penalty of being twice as dear as the target. A validation loss is around 1.
        channels: Those of the network whose cost counts, such as that to be retrained; None is the
            search's own.
        layers: Those of the same network.
        share: Where there is no target: what the cells' operations may cost, from those of the
            cheapest network at 0 to those of the dearest at 1, in (0, 1]. Where a cell can be had
            that costs nothing, this is the share of what the dearest one costs.
        table: What the candidates cost, counted or measured by `build`.
        skip_limits: By kind, how many skip connections the discretizer leaves a cell at most.

    Raises:
        ValueError: If a setting has no meaning, or no network of the space meets the target.
    """

    needs_whole_space: ClassVar[bool] = True
    target: float | None = None
    quantity: Quantity = Quantity.parameters
    weight: float = 1.0
    channels: int | None = None
    layers: int | None = None
    share: float | None = DEFAULT_SHARE
    table: CostTable | None = field(default=None, metadata=_MADE)
    skip_limits: Mapping[str, int] = field(default_factory=dict, metadata=_MADE)

    def __post_init__(self) -> None:
        if self.target is not None:
            self.share = None
        elif self.share is None:
            raise ValueError("penalties.cost needs a target or a share, got null for both")
        for name in ("target", "weight"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"penalties.cost.{name} must be positive, got {value}")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"penalties.cost.share must lie in (0, 1], got {self.share}")
        for name in ("channels", "layers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"penalties.cost.{name} must be at least 1, got {value}")
        if self.table is not None and self.target is not None:
            self._check_limit(self.table)

    def _check_limit(self, table: CostTable) -> None:
        """Raise a `ValueError` if no network is within the target; within a share there is one."""
        smallest = cheapest(table, self.skip_limits)
        if self.allowed >= smallest:
            return
        within = ""
        if self.skip_limits:
            within = f" with discretizer.max_skips={max(self.skip_limits.values())}"
        raise ValueError(
            f"penalties.cost.target={self.limit:.12g} cannot be met: the smallest network of this "
            f"space and size{within} costs {smallest:.12g} ({self.quantity.name}), so take at "
            f"least {_rounded_up(smallest)}"
        )

    def build(self, surroundings: Surroundings) -> "Cost":
        """Count or measure the candidates."""
        sizes = {"channels": self.channels, "layers": self.layers}
        given = {name: size for name, size in sizes.items() if size is not None}
        try:
            network = replace(surroundings.layout, **given)
        except ValueError as error:
            said = ", ".join(f"penalties.cost.{name}={size}" for name, size in given.items())
            raise ValueError(f"{said}: {error}") from None
        at, told = surroundings, partial(surroundings.told, f"measuring {self.quantity.name}")
        table = build_cost_table(at.space, network, at.image_size, self.quantity, at.device, told)
        sizes = {"channels": network.channels, "layers": network.layers}
        return replace(self, **sizes, table=table, skip_limits=at.skip_limits)

    def __call__(
        self, arch: ArchParameters, mixture: Mixture, *, progress: float
    ) -> Float[Tensor, ""]:
        """The weighted excess."""
        excess = self.state().expected(mixture) / self.limit - 1
        return self.weight * excess.clamp_min(0.0)

    def curves(self, mixture: Mixture) -> dict[str, float]:
        """The mean cost of the networks that the mixture stands for."""
        return {f"cost/{self.quantity.name}": self.state().expected(mixture).item()}

    def found(self, genotype: Genotype) -> dict[str, Any]:
        """What the cell costs by the table, beside the target, and in networks of which size."""
        found = self.state().of(genotype)
        told = {"quantity": self.quantity.name, "target": self.limit, "found": found}
        return told | {"share": self.share, "channels": self.channels, "layers": self.layers}

    def allows(self, genotype: Genotype) -> bool:
        """Whether the cell's network meets the target."""
        return self.state().of(genotype) <= self.allowed

    def admitted(self, genotype: Genotype, mixture: Mixture) -> Genotype:
        """The most probable cell that meets the target, where the alphas' choice does not."""
        if self.allows(genotype):
            return genotype
        return most_probable(mixture, self.state(), self.allowed, self.skip_limits)

    @property
    def allowed(self) -> float:
        """The limit, and what rounding may add to a sum."""
        return self.limit * (1 + _ROUNDING)

    @cached_property
    def limit(self) -> float:
        """What the network may cost, in the units of the table."""
        if self.target is not None:
            return self.target
        assert self.share is not None
        table = self.state()
        smallest = cheapest(table, self.skip_limits)
        return smallest + self.share * (table.largest - smallest)

    def state(self) -> CostTable:
        """The table, because a second measurement would differ."""
        assert self.table is not None, "build the penalty first"
        return self.table


def _rounded_up(value: float) -> str:
    """In six digits, or as a whole number, and no less."""
    if value == int(value):
        return f"{int(value)}"
    unit = 10.0 ** (math.floor(math.log10(value)) - 5)
    return f"{math.ceil(value / unit * (1 - _ROUNDING / 10)) * unit:.6g}"
