"""darts_gdas: differentiable architecture search on today's PyTorch.

`SearchSpace` says what can be built, `SuperNet` holds the shared weights and runs with a
`Mixture`, a search ends in a `Genotype`, and `DerivedNet` is the network it stands for.
"""

from darts_gdas.nets import DerivedNet, Mixture, SuperNet
from darts_gdas.space import Genotype, SearchSpace

__all__ = ["DerivedNet", "Genotype", "Mixture", "SearchSpace", "SuperNet"]
__version__ = "0.1.0"
