"""The neural tangent kernel of any torch model, and what follows from it without training."""

from darts_gdas.ntk.averages import Estimate, monte_carlo, monte_carlo_nngp, monte_carlo_ntk
from darts_gdas.ntk.blocks import collect_ntk, ntk_on_disc
from darts_gdas.ntk.descent import gradient_descent
from darts_gdas.ntk.dynamics import Prediction, predict_mse
from darts_gdas.ntk.expansion import linearize, taylor_expand
from darts_gdas.ntk.finite import finite_network
from darts_gdas.ntk.infinite import (
    Conv,
    Dense,
    Flatten,
    GlobalAverage,
    Nonlinearity,
    WideKernels,
    infinite_kernels,
)
from darts_gdas.ntk.kernel import empirical_ntk
from darts_gdas.ntk.nngp import empirical_nngp
from darts_gdas.ntk.phases import PhasePoint, critical_weight_variance, phase_point
from darts_gdas.ntk.posterior import Posterior, predict_ensemble
from darts_gdas.ntk.products import extreme_eigenvalues, ntk_vector_product
from darts_gdas.ntk.regions import activation_patterns, linear_regions
from darts_gdas.ntk.sketches import projected_ntk, subsampled_ntk
from darts_gdas.ntk.spectrum import (
    Spectrum,
    as_matrix,
    condition_number,
    logdet_normalised,
    max_learning_rate,
    spectrum,
)

__all__ = [
    "Conv",
    "Dense",
    "Estimate",
    "Flatten",
    "GlobalAverage",
    "Nonlinearity",
    "PhasePoint",
    "Posterior",
    "Prediction",
    "Spectrum",
    "WideKernels",
    "activation_patterns",
    "as_matrix",
    "collect_ntk",
    "condition_number",
    "critical_weight_variance",
    "empirical_nngp",
    "empirical_ntk",
    "extreme_eigenvalues",
    "finite_network",
    "gradient_descent",
    "infinite_kernels",
    "linear_regions",
    "linearize",
    "logdet_normalised",
    "max_learning_rate",
    "monte_carlo",
    "monte_carlo_nngp",
    "monte_carlo_ntk",
    "ntk_on_disc",
    "ntk_vector_product",
    "phase_point",
    "predict_ensemble",
    "predict_mse",
    "projected_ntk",
    "spectrum",
    "subsampled_ntk",
    "taylor_expand",
]
