"""What penalties and perturbations need of a search, so that the search's steps stay short."""

from typing import Any

from torch import Tensor, nn

from darts_gdas.search import ArchParameters
from darts_gdas.space import Genotype
from darts_gdas.tasks.method import Method


def penalty_terms(method: Method, arch: ArchParameters, annealed: float) -> dict[str, Tensor]:
    """Each penalty's value by name, differentiable in the alphas; none, no work."""
    if not method.penalties:
        return {}
    mixture = method.relaxation.mean(arch)
    chosen = method.penalties.items()
    return {name: penalty(arch, mixture, progress=annealed) for name, penalty in chosen}


def curves(method: Method, arch: ArchParameters, annealed: float) -> dict[str, float]:
    """What the networks that the alphas stand for cost, and how far a perturbation goes."""
    metrics = {}
    expected = method.relaxation.expected(arch)
    for penalty in method.penalties.values():
        metrics |= penalty.curves(expected)
    if method.perturbation is not None:
        for name, value in method.perturbation.settings(annealed).items():
            metrics[f"search/{name}"] = value
    return metrics


def found_cost(method: Method, genotype: Genotype) -> dict[str, Any] | None:
    """What a cell costs by the table that pressed on the search, and its target; or None."""
    told = (penalty.found(genotype) for penalty in method.penalties.values())
    return next((found for found in told if found is not None), None)


def costs(method: Method) -> nn.ModuleDict:
    """What penalties keep in a checkpoint, by name."""
    kept = {name: penalty.state() for name, penalty in method.penalties.items()}
    return nn.ModuleDict({name: state for name, state in kept.items() if state is not None})
