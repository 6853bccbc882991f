"""What can be built: search spaces and genotypes, as plain values. Imports no torch."""

from darts_gdas.space.cell import NONE, SKIP, CellSpace
from darts_gdas.space.chain import CHAIN_CANDIDATES, block_kinds
from darts_gdas.space.families import Family, family_of
from darts_gdas.space.genotype import CellGenotype, Edge, Genotype, published_names
from darts_gdas.space.search_space import (
    DARTS_CANDIDATES,
    NASBENCH201_CANDIDATES,
    SearchSpace,
)

__all__ = [
    "CHAIN_CANDIDATES",
    "DARTS_CANDIDATES",
    "NASBENCH201_CANDIDATES",
    "NONE",
    "SKIP",
    "CellGenotype",
    "CellSpace",
    "Edge",
    "Family",
    "Genotype",
    "SearchSpace",
    "block_kinds",
    "family_of",
    "published_names",
]
