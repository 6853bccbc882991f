"""What penalties and perturbations need of a search, so that the search's steps stay short."""

from typing import Any

from torch import Tensor, nn

from darts_gdas.search import ArchParameters, Cost
from darts_gdas.space import Genotype
from darts_gdas.tasks.method import Method


def penalty_terms(method: Method, alphas: ArchParameters, annealed: float) -> dict[str, Tensor]:
    """Each penalty's value by name, differentiable in the alphas; none, no work."""
    if not method.penalties:
        return {}
    mixture = method.relaxation.mean(alphas)
    return {
        penalty.name: penalty(alphas, mixture, progress=annealed) for penalty in method.penalties
    }


def curves(method: Method, alphas: ArchParameters, annealed: float) -> dict[str, float]:
    """What the networks that the alphas stand for cost, and how far a perturbation goes."""
    metrics = {}
    for penalty in method.penalties:
        if isinstance(penalty, Cost):
            mean = penalty.table.expected(method.relaxation.expected(alphas))
            metrics[f"cost/{penalty.quantity.name}"] = mean.item()
    if method.perturbation is not None:
        for name, value in method.perturbation.settings(annealed).items():
            metrics[f"search/{name}"] = value
    return metrics


def found_cost(method: Method, genotype: Genotype) -> dict[str, Any] | None:
    """What a cell costs by the table that pressed on the search, and its target; or None."""
    for penalty in method.penalties:
        if isinstance(penalty, Cost):
            found = penalty.table.of(genotype)
            quantity = penalty.quantity.name
            return {"quantity": quantity, "target": penalty.target, "found": found}
    return None


def costs(method: Method) -> nn.ModuleDict:
    """The tables of costs. A checkpoint holds them: a second measurement would differ."""
    return nn.ModuleDict({p.name: p.table for p in method.penalties if isinstance(p, Cost)})
