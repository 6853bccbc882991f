"""The outer networks, one file each."""

from darts_gdas.nets.layout import SKELETONS
from darts_gdas.nets.skeletons.chain import CHAIN
from darts_gdas.nets.skeletons.darts import DARTS
from darts_gdas.nets.skeletons.nasbench201 import NASBENCH201

__all__ = ["CHAIN", "DARTS", "NASBENCH201"]

SKELETONS.update({skeleton.name: skeleton for skeleton in (DARTS, NASBENCH201, CHAIN)})
