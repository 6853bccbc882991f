"""Fixed points and phases: published numbers, quadrature by another rule, iteration, real nets."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.special import erf, roots_hermitenorm

from darts_gdas.ntk import PhasePoint, critical_weight_variance, phase_point

FUNCTIONS = {
    "erf": (erf, lambda x: 2 / math.sqrt(math.pi) * np.exp(-(x**2))),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float)),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
}
SIGMOIDAL = ["erf", "tanh"]


def expectation(function, q: float, c: float, count: int = 300) -> float:
    """E[f(u) f(v)] by Gauss-Hermite nodes: smooth functions, moderate q."""
    nodes, weights = roots_hermitenorm(count)
    weights = weights / weights.sum()
    u = math.sqrt(q) * nodes
    v = math.sqrt(q) * (c * nodes[:, None] + math.sqrt(1 - c * c) * nodes)
    return float(weights @ (function(u)[:, None] * function(v)) @ weights)


@pytest.mark.parametrize(
    ("weight_variance", "expected"),
    [(1.0, (0.288427, 1.0, 0.867595)), (1.5, (0.601753, 0.820530, 1.034700))],
)
def test_erf_has_its_known_fixed_points(weight_variance: float, expected: tuple):
    """docs: sw2 = 1 and 1.5 at sb2 = 0.05."""
    assert tuple(phase_point("erf", weight_variance, 0.05)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("erf", [0.7854, 1.1143, 1.3758, 1.5521, 1.8805]),
        ("tanh", [1.0, 1.4242, 1.7610, 1.9861, 2.4015]),
        ("relu", [2.0] * 5),
    ],
)
def test_the_critical_lines_are_known(activation: str, expected: list[float]):
    biases = (0.0, 0.01, 0.05, 0.1, 0.25)
    found = [critical_weight_variance(activation, b) for b in biases]
    assert found == pytest.approx(expected, abs=6e-5)


def test_erf_is_critical_at_a_quarter_of_pi():
    assert critical_weight_variance("erf") == pytest.approx(math.pi / 4, rel=1e-15)


@pytest.mark.parametrize("activation", SIGMOIDAL)
@pytest.mark.parametrize("bias_variance", [0.0, 1e-6, 0.05, 0.7, 20.0])
def test_the_critical_line_parts_order_from_chaos(activation: str, bias_variance: float):
    critical = critical_weight_variance(activation, bias_variance)
    on, below, above = (phase_point(activation, critical * f, bias_variance) for f in (1, 0.9, 1.1))
    assert [p.phase for p in (on, below, above)] == ["critical", "ordered", "chaotic"]
    assert on.chi_1 == pytest.approx(1, abs=1e-9) and on.xi_c == math.inf
    assert below.c_star == on.c_star == 1.0 > above.c_star
    assert 0 < below.xi_c < math.inf and 0 < above.xi_c < math.inf


@pytest.mark.parametrize("activation", SIGMOIDAL)
@pytest.mark.parametrize("variances", [(0.5, 0.3), (1.2, 0.01), (2.5, 0.0), (3.0, 0.2)])
def test_values_are_fixed_points_by_another_quadrature(activation: str, variances: tuple):
    weight, bias = variances
    phi, slope = FUNCTIONS[activation]
    point = phase_point(activation, weight, bias)
    q, c = point.q_star, point.c_star
    exact = {"rel": 1e-10, "abs": 1e-12}
    assert weight * expectation(phi, q, 1.0) + bias == pytest.approx(q, **exact)
    assert (weight * expectation(phi, q, c) + bias) / q == pytest.approx(c, **exact)
    assert weight * expectation(slope, q, 1.0) == pytest.approx(point.chi_1, **exact)
    assert weight * expectation(slope, q, c) == pytest.approx(point.chi_c, **exact)


@pytest.mark.parametrize("activation", SIGMOIDAL)
@pytest.mark.parametrize("variances", [(0.9, 0.05), (1.5, 0.0), (2.0, 0.1)])
def test_layers_converge_to_the_fixed_points_at_the_predicted_rate(
    activation: str, variances: tuple
):
    """Iterate the two maps, and measure the last layers' contraction of the correlation."""
    weight, bias = variances
    phi, _ = FUNCTIONS[activation]
    point = phase_point(activation, weight, bias)
    q = 1.7
    for _ in range(200):
        q = weight * expectation(phi, q, 1.0, 80) + bias
    assert q == pytest.approx(point.q_star, rel=1e-6)
    c, errors = min(point.c_star + 0.01, 0.99), []
    for _ in range(12):
        errors.append(c - point.c_star)
        c = (weight * expectation(phi, point.q_star, c) + bias) / point.q_star
    assert errors[-1] / errors[-2] == pytest.approx(math.exp(-1 / point.xi_c), rel=0.02)


def test_tanh_without_cancellation_far_from_the_linear_range():
    """At large q tanh is a sign: E sign(u) sign(v) = (2 / pi) asin c, to O(1 / sqrt(q))."""
    weight = 400.0
    point = phase_point("tanh", weight, 0.0)
    assert point.q_star == pytest.approx(weight, rel=0.05)
    reference = np.linspace(-9, 9, 400_001)
    density = np.exp(-(reference**2) / 2) / math.sqrt(2 * math.pi) * (18 / 400_000)
    fine = density @ np.tanh(math.sqrt(point.q_star) * reference) ** 2
    assert weight * fine == pytest.approx(point.q_star, rel=1e-12)
    assert point.c_star == 0.0
    assert point.chi_c == pytest.approx(2 / math.pi, rel=0.1)


@pytest.mark.parametrize("weight_variance", [0.0, 0.5, 1.0, 1.9])
def test_relu_has_a_fixed_variance_below_two(weight_variance: float):
    point = phase_point("relu", weight_variance, 0.3)
    assert point.q_star == pytest.approx(0.3 / (1 - weight_variance / 2), rel=1e-14)
    assert (point.c_star, point.chi_1, point.phase) == (1.0, weight_variance / 2, "ordered")


def test_he_initialisation_is_critical_and_keeps_any_variance():
    q, c, chi_1 = point = phase_point("relu", 2.0, 0.0)
    assert math.isnan(q) and (c, chi_1) == (1.0, 1.0)
    assert (point.phase, point.xi_c) == ("critical", math.inf)


@pytest.mark.parametrize("variances", [(2.0, 0.1), (2.5, 0.0), (3.0, 0.1)])
def test_relu_diverges_beyond(variances: tuple[float, float]):
    point = phase_point("relu", *variances)
    assert point.phase == "divergent" and point.q_star == math.inf
    assert point.chi_1 == variances[0] / 2


@pytest.mark.parametrize("activation", sorted(FUNCTIONS))
def test_without_weights_only_biases_are_left(activation: str):
    point = phase_point(activation, 0.0, 0.4)
    assert tuple(point) == (0.4, 1.0, 0.0)
    assert (point.phase, point.xi_c) == ("ordered", 0.0)


@pytest.mark.parametrize("activation", sorted(FUNCTIONS))
def test_small_weights_without_biases_let_everything_vanish(activation: str):
    critical = critical_weight_variance(activation)
    q, c, chi_1 = phase_point(activation, critical / 2, 0.0)
    assert (q, c) == (0.0, 1.0) and chi_1 == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("activation", SIGMOIDAL)
@pytest.mark.parametrize("above", [1e-8, 1e-6, 1e-3])
def test_the_fixed_variance_grows_from_zero_at_the_critical_point(activation: str, above: float):
    """q = chi (q - 2 q^2 + ...): q* = above / 2 to first order."""
    weight = critical_weight_variance(activation) * (1 + above)
    assert phase_point(activation, weight, 0.0).q_star == pytest.approx(above / 2, rel=5e-3)


def test_a_wide_network_has_the_predicted_variance_and_correlation():
    """tanh, 1000 wide; means of layers 11 to 30, each of which is off by 4 % or more."""
    weight, bias, width = 2.5, 0.1, 1000
    source = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    h, moments = normal(2, width), []
    for _ in range(30):
        weights = normal(width, width) * (weight / width) ** 0.5
        h = h.tanh() @ weights + normal(width) * bias**0.5
        moments.append(h @ h.T / width)
    (q1, cross), (_, q2) = torch.stack(moments[10:]).mean(0).tolist()
    point = phase_point("tanh", weight, bias)
    assert (q1 + q2) / 2 == pytest.approx(point.q_star, rel=0.06)
    assert cross / (q1 * q2) ** 0.5 == pytest.approx(point.c_star, abs=0.06)


def test_a_point_is_three_numbers_and_survives_copies():
    point = phase_point("erf", 1.5, 0.05)
    q_star, c_star, chi_1 = point
    assert (q_star, c_star, chi_1) == (point.q_star, point.c_star, point.chi_1)
    for twin in (copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert twin == point and twin.xi_c == point.xi_c and twin.phase == "chaotic"
    assert PhasePoint(1.0, 1.0, 0.9, 0.5).xi_c == pytest.approx(1 / math.log(2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.q_star = 1.0  # type: ignore[misc]


@pytest.mark.usefixtures("untyped")
def test_unknown_activations_are_refused():
    for function, numbers in ((phase_point, (1.0, 0.0)), (critical_weight_variance, (0.0,))):
        with pytest.raises(ValueError, match="unknown activation 'gelu'; known: erf, relu, tanh"):
            function("gelu", *numbers)
        with pytest.raises(ValueError, match=r"unknown activation \['erf'\]"):
            function(["erf"], *numbers)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("variance", [-0.1, math.inf, math.nan, "1", None, True, [1.0]])
def test_what_is_no_variance_is_refused(variance: float):
    with pytest.raises(ValueError, match=r"weight_variance must be finite and >= 0, got"):
        phase_point("tanh", variance, 0.0)
    with pytest.raises(ValueError, match=r"bias_variance must be finite and >= 0, got"):
        phase_point("tanh", 1.0, variance)
    with pytest.raises(ValueError, match=r"bias_variance must be finite and >= 0, got"):
        critical_weight_variance("tanh", variance)
