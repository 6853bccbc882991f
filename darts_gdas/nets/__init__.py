"""How a cell is built: torch modules, no training."""

from darts_gdas.nets.cost_table import CostTable, Quantity, build_cost_table
from darts_gdas.nets.costs import count_multiply_adds, count_parameters
from darts_gdas.nets.derived import DerivedNet
from darts_gdas.nets.initialization import Fan, initialize
from darts_gdas.nets.layout import Layout, Skeleton, Stem
from darts_gdas.nets.mixture import CellMixture, Mixture
from darts_gdas.nets.operations import OPERATIONS
from darts_gdas.nets.registry import register_operation, register_skeleton
from darts_gdas.nets.skeletons import CHAIN, DARTS, NASBENCH201
from darts_gdas.nets.supernet import SuperNet

__all__ = [
    "CHAIN",
    "DARTS",
    "NASBENCH201",
    "OPERATIONS",
    "CellMixture",
    "CostTable",
    "DerivedNet",
    "Fan",
    "Layout",
    "Mixture",
    "Quantity",
    "Skeleton",
    "Stem",
    "SuperNet",
    "build_cost_table",
    "count_multiply_adds",
    "count_parameters",
    "initialize",
    "register_operation",
    "register_skeleton",
]
