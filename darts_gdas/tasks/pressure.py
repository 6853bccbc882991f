"""What penalties and perturbations need of a search, so that the search's steps stay short."""

import torch
from torch import Tensor, nn

from darts_gdas.search import ArchParameters, Cost
from darts_gdas.search.hypergradient import Weights
from darts_gdas.tasks.method import Method


def penalty_terms(method: Method, arch: ArchParameters, annealed: float) -> dict[str, Tensor]:
    """Each penalty's value by name, differentiable in the alphas; none, no work."""
    if not method.penalties:
        return {}
    mixture = method.relaxation.mean(arch)
    return {penalty.name: penalty(arch, mixture, progress=annealed) for penalty in method.penalties}


def expected_costs(method: Method, arch: ArchParameters) -> dict[str, float]:
    """What the networks that the alphas stand for cost, for the curves."""
    with torch.no_grad():
        return {
            f"cost/{penalty.quantity.name}": float(
                penalty.table.expected(method.relaxation.expected(arch))
            )
            for penalty in method.penalties
            if isinstance(penalty, Cost)
        }


def costs(method: Method) -> nn.ModuleDict:
    """The tables of costs. A checkpoint holds them: a second measurement would differ."""
    return nn.ModuleDict({p.name: p.table for p in method.penalties if isinstance(p, Cost)})


def detached(weights: Weights) -> Weights:
    """The same values, which collect no gradient."""
    return {name: weight.detach() for name, weight in weights.items()}
