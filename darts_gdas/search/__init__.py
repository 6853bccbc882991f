"""How a cell is searched: functions of weights and mixture."""

from darts_gdas.search.alignment import LayerAlignment
from darts_gdas.search.auxiliary import AuxiliarySkip
from darts_gdas.search.cost import Cost
from darts_gdas.search.dense import Concrete, Dirichlet, Sigmoid
from darts_gdas.search.diagnostics import entropy, skip_share
from darts_gdas.search.discretize import ArgMax, Discretizer
from darts_gdas.search.evolution import Evolution
from darts_gdas.search.hypergradient import (
    Bilevel,
    FirstOrder,
    Hypergradient,
    SGDStep,
    Unrolled,
    UnrolledExact,
)
from darts_gdas.search.judges import Judge, Known, SharedWeights, Untrained
from darts_gdas.search.penalties import (
    BetaDecay,
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
from darts_gdas.search.reinforce import Reinforce
from darts_gdas.search.relaxation import ArchParameters, GumbelHard, Linear, Relaxation, Softmax
from darts_gdas.search.sampling import Uniform
from darts_gdas.search.selection import BestOfSamples, PerturbationSelection

__all__ = [
    "AdversarialPerturbation",
    "ArchParameters",
    "ArgMax",
    "AuxiliarySkip",
    "BestOfSamples",
    "BetaDecay",
    "Bilevel",
    "Concrete",
    "Cost",
    "Dirichlet",
    "DirichletKL",
    "Discretizer",
    "Evolution",
    "FirstOrder",
    "GumbelHard",
    "Hypergradient",
    "Judge",
    "Known",
    "LayerAlignment",
    "Linear",
    "Penalty",
    "Perturbation",
    "PerturbationSelection",
    "RandomPerturbation",
    "Reinforce",
    "Relaxation",
    "SGDStep",
    "SharedWeights",
    "Sigmoid",
    "Softmax",
    "Surroundings",
    "Uniform",
    "Unrolled",
    "UnrolledExact",
    "Untrained",
    "ZeroOne",
    "entropy",
    "skip_share",
]
