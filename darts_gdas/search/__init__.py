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
from darts_gdas.search.relaxation import ArchParameters, GumbelHard, Linear, Relaxation, Softmax
from darts_gdas.search.sampling import Uniform
from darts_gdas.search.selection import BestOfSamples, PerturbationSelection

__all__ = [
    "ArchParameters",
    "ArgMax",
    "BestOfSamples",
    "Bilevel",
    "Concrete",
    "Dirichlet",
    "Discretizer",
    "FirstOrder",
    "GumbelHard",
    "Hypergradient",
    "Linear",
    "PerturbationSelection",
    "Relaxation",
    "SGDStep",
    "Sigmoid",
    "Softmax",
    "Uniform",
    "Unrolled",
    "UnrolledExact",
    "entropy",
    "skip_share",
]
