"""The neural tangent kernel of any torch model, and what follows from it without training."""

from darts_gdas.ntk.dynamics import Prediction, linearize, predict_mse
from darts_gdas.ntk.kernel import empirical_ntk
from darts_gdas.ntk.phases import PhasePoint, critical_weight_variance, phase_point
from darts_gdas.ntk.products import extreme_eigenvalues, ntk_vector_product
from darts_gdas.ntk.regions import activation_patterns, linear_regions
from darts_gdas.ntk.spectrum import (
    Spectrum,
    as_matrix,
    condition_number,
    logdet_normalised,
    max_learning_rate,
    spectrum,
)

__all__ = [
    "PhasePoint",
    "Prediction",
    "Spectrum",
    "activation_patterns",
    "as_matrix",
    "condition_number",
    "critical_weight_variance",
    "empirical_ntk",
    "extreme_eigenvalues",
    "linear_regions",
    "linearize",
    "logdet_normalised",
    "max_learning_rate",
    "ntk_vector_product",
    "phase_point",
    "predict_mse",
    "spectrum",
]
