"""How a cell is searched: functions of weights and mixture."""

from darts_gdas.search.dense import Concrete, Dirichlet, Sigmoid
from darts_gdas.search.diagnostics import entropy, skip_share
from darts_gdas.search.discretize import ArgMax, Discretizer
from darts_gdas.search.hypergradient import (
    Bilevel,
    FirstOrder,
    Hypergradient,
    SGDStep,
    Unrolled,
    UnrolledExact,
)
from darts_gdas.search.penalties import (
    BetaDecay,
    Cost,
    DirichletKL,
    Penalty,
    Surroundings,
    ZeroOne,
)
from darts_gdas.search.perturbation import (
    AdversarialPerturbation,
    Perturbation,
    RandomPerturbation,
)
from darts_gdas.search.relaxation import ArchParameters, GumbelHard, Linear, Relaxation, Softmax
from darts_gdas.search.sampling import Uniform
from darts_gdas.search.selection import BestOfSamples, PerturbationSelection

__all__ = [
    "AdversarialPerturbation",
    "ArchParameters",
    "ArgMax",
    "BestOfSamples",
    "BetaDecay",
    "Bilevel",
    "Concrete",
    "Cost",
    "Dirichlet",
    "DirichletKL",
    "Discretizer",
    "FirstOrder",
    "GumbelHard",
    "Hypergradient",
    "Linear",
    "Penalty",
    "Perturbation",
    "PerturbationSelection",
    "RandomPerturbation",
    "Relaxation",
    "SGDStep",
    "Sigmoid",
    "Softmax",
    "Surroundings",
    "Uniform",
    "Unrolled",
    "UnrolledExact",
    "ZeroOne",
    "entropy",
    "skip_share",
]
