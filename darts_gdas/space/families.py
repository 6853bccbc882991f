"""Families of operations: what a drawing tells apart, known without torch."""

from enum import Enum

from darts_gdas.space.cell import NONE


class Family(Enum):
    """A kind of operation that has a look of its own in drawings."""

    none = "none"
    skip = "skip"
    pool = "pool"
    separable = "sep"
    dilated = "dil"
    other = "other"


FAMILIES = {
    NONE: Family.none,
    "skip_connect": Family.skip,
    **dict.fromkeys(("max_pool_3x3", "avg_pool_3x3", "norm_max_pool_3x3"), Family.pool),
    **dict.fromkeys(("sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7"), Family.separable),
    **dict.fromkeys(("dil_conv_3x3", "dil_conv_5x5"), Family.dilated),
}
"""Families of operations by name; all others are `Family.other`. `register_operation` adds."""


def family_of(operation: str) -> Family:
    """The family of an operation, whether or not it exists."""
    return FAMILIES.get(operation, Family.other)
