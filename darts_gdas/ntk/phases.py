"""Mean-field theory of wide, deep networks at initialisation: fixed points and phases.

Variances and correlations are those of pre-activations, layer after layer, in the limit of
infinite width: of a network's weights with variance weight_variance / fan_in, biases with variance
bias_variance and no normalisation. Batch norm resets variances, so there it does not apply.

With D z Gaussian, u and v of variance q and correlation c, one layer maps

    q -> weight_variance E[phi(u)^2] + bias_variance
    c -> (weight_variance E[phi(u) phi(v)] + bias_variance) / q

Poole et al., NeurIPS 2016, https://arxiv.org/abs/1606.05340; Schoenholz et al., ICLR 2017,
https://arxiv.org/abs/1611.01232. Libraries that iterate the post-activation map report other
variances and correlations; chi_1 is the same.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import scipy
from jaxtyping import Float64

from darts_gdas.ntk.checks import check_variance

CRITICAL = 1e-9
"""Distance of chi_1 to 1 that passes for 0."""

_Nodes = Float64[np.ndarray, " nodes"]
_RANGE = 9.0  # standard deviations: the Gaussian beyond them is below 1e-18


@dataclass(frozen=True, slots=True)
class PhasePoint:
    """Where signals end up in a deep network; unpacks as (q_star, c_star, chi_1).

    Attributes:
        q_star: Variance after many layers: inf where it grows for ever, nan where every variance
            stays what it is (ReLU with weight variance 2 and without biases).
        c_star: Correlation of two inputs after many layers.
        chi_1: Factor per layer by which squared gradients and small differences grow.
        chi_c: Factor per layer by which a correlation near `c_star` approaches it.
    """

    q_star: float
    c_star: float
    chi_1: float
    chi_c: float

    def __iter__(self) -> Iterator[float]:
        return iter((self.q_star, self.c_star, self.chi_1))

    @property
    def phase(self) -> Literal["ordered", "critical", "chaotic", "divergent"]:
        """What depth does to gradients: they vanish, keep their size, or explode.

        In "ordered" networks inputs become alike, in "chaotic" ones similar inputs part. In
        "divergent" ones (ReLU only) the variance grows without end.
        """
        if math.isinf(self.q_star):
            return "divergent"
        if abs(self.chi_1 - 1) <= CRITICAL:
            return "critical"
        return "ordered" if self.chi_1 < 1 else "chaotic"

    @property
    def xi_c(self) -> float:
        """Depth in layers over which the correlation of two inputs is forgotten.

        -1 / log(chi_c): the error falls by e. Networks train up to about six times as deep
        (Schoenholz et al. 2017, section 5). inf at criticality.
        """
        if self.chi_c >= 1 - CRITICAL:
            return math.inf
        return -1 / math.log(self.chi_c) if self.chi_c > 0 else 0.0


def phase_point(activation: str, weight_variance: float, bias_variance: float) -> PhasePoint:
    """Fixed points of variance and correlation, and the gradient factor chi_1.

    Args:
        activation: "erf", "relu" or "tanh".
        weight_variance: Fan-in times the variance of a weight. He initialisation is 2, LeCun 1.
        bias_variance: Variance of a bias.

    Returns:
        The stable fixed points that non-zero inputs reach. Where everything shrinks to 0, the
        correlation is 1 by convention. A ReLU without fixed variance (weight variance above 2, or
        2 with biases) has q_star inf; correlations still approach 1, slower than exponentially.

    Raises:
        ValueError: If the activation is unknown or a variance is negative, infinite or nan.

    Example:
        >>> q_star, c_star, chi_1 = phase_point("erf", 1.5, 0.05)
        >>> round(q_star, 4), round(c_star, 4), round(chi_1, 4)
        (0.6018, 0.8205, 1.0347)
        >>> phase_point("erf", 1.5, 0.05).phase
        'chaotic'
    """
    weight_variance = check_variance("weight_variance", weight_variance)
    bias_variance = check_variance("bias_variance", bias_variance)
    moments = _moments(activation)
    if isinstance(moments, _Relu):
        return _relu_point(weight_variance, bias_variance)
    q = _fixed_variance(moments, weight_variance, bias_variance)
    chi_1 = weight_variance * moments.slopes(q, 1.0)
    if chi_1 <= 1 + CRITICAL:
        return PhasePoint(q, 1.0, chi_1, chi_1)
    c = _fixed_correlation(moments, q, weight_variance, bias_variance)
    return PhasePoint(q, c, chi_1, weight_variance * moments.slopes(q, c))


def critical_weight_variance(activation: str, bias_variance: float = 0.0) -> float:
    """The weight variance where chi_1 = 1: signals travel deepest.

    Args:
        activation: "erf", "relu" or "tanh".
        bias_variance: Variance of a bias. For "relu" only 0 leaves the variance finite.

    Raises:
        ValueError: As `phase_point`.

    Example:
        >>> critical_weight_variance("relu"), critical_weight_variance("tanh")
        (2.0, 1.0)
    """
    bias_variance = check_variance("bias_variance", bias_variance)
    moments = _moments(activation)
    if isinstance(moments, _Relu):
        return 2.0
    if bias_variance == 0:
        return 1 / moments.slopes(0.0, 1.0)

    def excess(q: float) -> float:
        """Bias variance of the critical network with this q*, less the one asked for."""
        return q - moments.covariance(q, 1.0) / moments.slopes(q, 1.0) - bias_variance

    upper = 1.0 + bias_variance
    while excess(upper) < 0:
        upper *= 2
    return 1 / moments.slopes(_root(excess, 0.0, upper), 1.0)


class _Moments(ABC):
    """Gaussian expectations of an activation and its derivative, variance q, correlation c."""

    @abstractmethod
    def covariance(self, q: float, c: float) -> float:
        """E[phi(u) phi(v)]."""

    @abstractmethod
    def slopes(self, q: float, c: float) -> float:
        """E[phi'(u) phi'(v)]."""


class _Relu(_Moments):
    def covariance(self, q: float, c: float) -> float:
        return q * (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / (2 * math.pi)

    def slopes(self, q: float, c: float) -> float:
        return (math.pi - math.acos(c)) / (2 * math.pi)


class _Erf(_Moments):
    def covariance(self, q: float, c: float) -> float:
        return 2 / math.pi * math.asin(2 * q * c / (1 + 2 * q))

    def slopes(self, q: float, c: float) -> float:
        # (1 + 2q)^2 - (2qc)^2, without the cancellation
        return 4 / math.pi / math.sqrt((1 + 2 * q * (1 - c)) * (1 + 2 * q * (1 + c)))


class _Tanh(_Moments):
    """By the trapezoidal rule, which converges geometrically for these integrands.

    The poles of tanh(sqrt(q) z) come close to the real axis as q grows: steps follow them, to
    1e-12 up to q = 500 (for c < 1; any q for c = 1), where Gauss-Hermite nodes lose their digits.
    """

    def covariance(self, q: float, c: float) -> float:
        return _expectation(np.tanh, q, c)

    def slopes(self, q: float, c: float) -> float:
        return _expectation(lambda x: 1 - np.tanh(x) ** 2, q, c)


def _expectation(function: Callable[..., Any], q: float, c: float) -> float:
    """E[f(u) f(v)] for u, v of variance q and correlation c."""
    if q == 0:
        return float(function(0.0) ** 2)
    if c == 1.0:
        z, weights = _trapezoid(q, 200_000)
        return float(weights @ function(math.sqrt(q) * z) ** 2)
    z, weights = _trapezoid(q, 1800)
    u = math.sqrt(q) * z
    v = c * u[:, None] + math.sqrt(1 - c * c) * u
    return float((weights * function(u)) @ (function(v) @ weights))


def _trapezoid(q: float, most: int) -> tuple[_Nodes, _Nodes]:
    """Nodes and weights for Gaussian expectations of functions of tanh(sqrt(q) z).

    Step h errs by exp(-2 pi d / h) where the nearest pole lies at distance d = pi / (2 sqrt(q)).
    """
    step = min(0.25, math.pi**2 / (40 * math.sqrt(q)))
    step = max(step, 2 * _RANGE / most)
    z = np.arange(-math.ceil(_RANGE / step), math.ceil(_RANGE / step) + 1) * step
    return z, step / math.sqrt(2 * math.pi) * np.exp(-(z**2) / 2)


def _root(excess: Callable[[float], float], lower: float, upper: float) -> float:
    """Where a function that changes its sign between two bounds is 0, by bracketing."""
    found = scipy.optimize.brentq(excess, lower, upper, xtol=1e-30, maxiter=500)
    return cast(float, found)  # a tuple on request only


_ACTIVATIONS: dict[str, _Moments] = {"erf": _Erf(), "relu": _Relu(), "tanh": _Tanh()}


def _moments(activation: str) -> _Moments:
    if activation not in [*_ACTIVATIONS]:
        raise ValueError(f"unknown activation {activation!r}; known: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[activation]


def _relu_point(weight_variance: float, bias_variance: float) -> PhasePoint:
    chi_1 = weight_variance / 2
    if chi_1 < 1:
        return PhasePoint(bias_variance / (1 - chi_1), 1.0, chi_1, chi_1)
    q = math.nan if weight_variance == 2 and bias_variance == 0 else math.inf
    return PhasePoint(q, 1.0, chi_1, 1.0)


def _fixed_variance(moments: _Moments, weight_variance: float, bias_variance: float) -> float:
    """The stable root of Q(q) = q, for a sigmoidal activation bounded by 1: Q is concave."""

    def excess(q: float) -> float:
        return weight_variance * moments.covariance(q, 1.0) + bias_variance - q

    lower, growth = bias_variance, weight_variance * moments.slopes(0.0, 1.0)
    if bias_variance == 0:
        if growth <= 1 + CRITICAL:
            return 0.0
        # E[phi^2] = phi'(0)^2 (q - 2 q^2 + ...) for both: positive below (growth - 1) / (2 growth)
        lower = (growth - 1) / (100 * growth)
    upper = bias_variance + weight_variance
    if excess(lower) <= 0 or upper <= lower:
        return lower
    return _root(excess, lower, upper)


def _fixed_correlation(
    moments: _Moments, q: float, weight_variance: float, bias_variance: float
) -> float:
    """The root of C(c) = c below 1, in the chaotic phase: C is convex, and C'(1) > 1."""
    if bias_variance == 0:
        return 0.0  # odd activations keep uncorrelated inputs so

    def excess(c: float) -> float:
        return (weight_variance * moments.covariance(q, c) + bias_variance) / q - c

    gap = 0.5
    while excess(1 - gap) >= 0:
        gap /= 4
        if gap < 1e-14:
            return 1.0  # too close to criticality to tell
    return _root(excess, 0.0, 1 - gap) if excess(0.0) > 0 else 0.0
