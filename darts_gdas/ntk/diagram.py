"""The phases of an activation on a grid of variances: the numbers of a phase diagram."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from darts_gdas.ntk.checks import check_count, is_number
from darts_gdas.ntk.phases import critical_weight_variance, phase_point


@dataclass(frozen=True, slots=True, eq=False)
class PhaseDiagram:
    """chi_1 and the correlation depth on a grid of variances.

    Attributes:
        activation: Its name.
        weight_variances: Ascending from 0 (not included).
        bias_variances: Ascending from 0.
        chi_1: Gradient factor per layer.
        xi_c: Correlation depth in layers; inf where it has no end.
        critical: Points (weight variance, bias variance) of the critical line, chi_1 = 1.
    """

    activation: str
    weight_variances: Float64[np.ndarray, " weights"]
    bias_variances: Float64[np.ndarray, " biases"]
    chi_1: Float64[np.ndarray, "biases weights"]
    xi_c: Float64[np.ndarray, "biases weights"]
    critical: Float64[np.ndarray, "line 2"]


def phase_diagram(
    activation: str,
    *,
    max_weight_variance: float = 4.0,
    max_bias_variance: float = 0.5,
    points: int = 40,
) -> PhaseDiagram:
    """The phases of an activation on a grid of `points` x `points` variances.

    Args:
        activation: "erf", "relu" or "tanh".
        max_weight_variance: Largest fan-in times variance of a weight.
        max_bias_variance: Largest variance of a bias.
        points: At least 2.

    Raises:
        ValueError: If the activation is unknown, or the grid has no extent.
    """
    points = check_count("points", points, 2)
    for name, value in (("weight", max_weight_variance), ("bias", max_bias_variance)):
        if not (is_number(value) and 0 < value < math.inf):
            raise ValueError(f"max_{name}_variance must be positive and finite, got {value!r}")
    weights = np.linspace(0, max_weight_variance, points + 1)[1:]
    biases = np.linspace(0, max_bias_variance, points)
    line = max_bias_variance * np.linspace(0, 1, 100) ** 2  # it bends near 0
    grid = [[phase_point(activation, float(w), float(b)) for w in weights] for b in biases]
    return PhaseDiagram(
        activation,
        weights,
        biases,
        np.array([[point.chi_1 for point in row] for row in grid]),
        np.array([[point.xi_c for point in row] for row in grid]),
        np.array([(critical_weight_variance(activation, b), b) for b in line.tolist()]),
    )
