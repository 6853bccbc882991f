"""Kernels in C++ for what libraries are slow at on a CPU, built where they are first used.

They compute what functions of torch compute, to rounding, on plain tensors of float32 or float64;
`usable` says whether a call is for them. All else, derivatives of higher order, transforms and
other devices, is torch's.
"""

from darts_gdas.native.build import Kernels, choose, chosen, described, library
from darts_gdas.native.convolution import DenseConvolution, convolution_gradients, convolve
from darts_gdas.native.depthwise import (
    Convolution,
    convolve_depthwise,
    depthwise_gradients,
)
from darts_gdas.native.pointwise import (
    evaluated_sum,
    normalized_sum,
    normalized_sum_gradients,
    takes_sums,
)
from darts_gdas.native.pooling import (
    Normalized,
    Pool,
    Taken,
    normalized_pool,
    normalized_pool_gradient,
)
from darts_gdas.native.tensors import (
    in_forward_mode,
    recorded,
    transformed,
    transforming,
    usable,
)
from darts_gdas.native.weighted import (
    WeightedSums,
    takes_weighted,
    weighted_sums,
    weighted_sums_gradients,
)

__all__ = [
    "Convolution",
    "DenseConvolution",
    "Kernels",
    "Normalized",
    "Pool",
    "Taken",
    "WeightedSums",
    "choose",
    "chosen",
    "convolution_gradients",
    "convolve",
    "convolve_depthwise",
    "depthwise_gradients",
    "described",
    "evaluated_sum",
    "in_forward_mode",
    "library",
    "normalized_pool",
    "normalized_pool_gradient",
    "normalized_sum",
    "normalized_sum_gradients",
    "recorded",
    "takes_sums",
    "takes_weighted",
    "transformed",
    "transforming",
    "usable",
    "weighted_sums",
    "weighted_sums_gradients",
]
