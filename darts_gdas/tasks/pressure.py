"""What the penalties on costs tell of a search, and what a checkpoint holds of them."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from darts_gdas.nets import Mixture
from darts_gdas.search import Cost, Penalty
from darts_gdas.space import Genotype


def cost_curves(penalties: Sequence[Penalty], mixture: Mixture) -> dict[str, float]:
    """What the networks that an expected mixture stands for cost in the mean."""
    costs = [penalty for penalty in penalties if isinstance(penalty, Cost)]
    return {f"cost/{p.quantity.name}": p.table.expected(mixture).item() for p in costs}


def found_cost(penalties: Sequence[Penalty], genotype: Genotype) -> dict[str, Any] | None:
    """What a cell costs by the table that pressed on the search, and its target; or None."""
    for penalty in penalties:
        if isinstance(penalty, Cost):
            found = penalty.table.of(genotype)
            quantity = penalty.quantity.name
            return {"quantity": quantity, "target": penalty.target, "found": found}
    return None


def costs(penalties: Sequence[Penalty]) -> nn.ModuleDict:
    """The tables of costs. A checkpoint holds them: a second measurement would differ."""
    return nn.ModuleDict({p.name: p.table for p in penalties if isinstance(p, Cost)})
