"""darts_gdas: differentiable architecture search on today's PyTorch.

`SearchSpace` says what can be built, `SuperNet` holds the shared weights and runs with a
`Mixture`, a search ends in a `Genotype`, and `DerivedNet` is the network it stands for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from darts_gdas.nets import DerivedNet, Mixture, SuperNet
    from darts_gdas.space import Genotype, SearchSpace

__all__ = ["DerivedNet", "Genotype", "Mixture", "SearchSpace", "SuperNet"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import what is asked for: a program is there before PyTorch is."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    package = "space" if name in ("Genotype", "SearchSpace") else "nets"
    return getattr(import_module(f"{__name__}.{package}"), name)
