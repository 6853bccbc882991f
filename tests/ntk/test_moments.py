"""Gaussian expectations against quadrature, against each other, and against those of phases."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.ntk import phases
from darts_gdas.ntk.moments import ACTIVATIONS, activation

CASES = [(1.0, 1.0, 0.3), (0.5, 2.0, -0.7), (3.0, 0.2, 0.1), (1.5, 1.5, 0.0)]


def expectation(function, q1: float, q2: float, k: float) -> float:
    """E[f(u) f(v)] by the trapezoidal rule in two independent Gaussians, steps of 0.01."""
    z = torch.arange(-8, 8, 0.01, dtype=torch.float64)
    weights = torch.exp(-z.square() / 2) * 0.01 / (2 * np.pi) ** 0.5
    u = q1**0.5 * z[:, None]
    v = k / q1**0.5 * z[:, None] + (q2 - k * k / q1) ** 0.5 * z
    return float(weights @ (function(u) * function(v)) @ weights)


def numbers(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_they_are_the_integrals(name: str, case: tuple[float, float, float]):
    """To 1e-9; to 1e-4 where ReLU has its kink (and its derivative a jump)."""
    phi = activation(name)

    def slope(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(phi.function(x).sum(), x)[0]

    smooth = name != "relu"
    assert float(phi.products(*numbers(*case))) == pytest.approx(
        expectation(phi.function, *case), abs=1e-9 if smooth else 1e-4
    )
    assert float(phi.slopes(*numbers(*case))) == pytest.approx(
        expectation(slope, *case), abs=1e-9 if smooth else 5e-3
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_the_derivative_in_the_covariance(name: str, case: tuple[float, float, float]):
    """Price's theorem."""
    q1, q2, k = numbers(*case)
    k.requires_grad_()
    (found,) = torch.autograd.grad(activation(name).products(q1, q2, k), k)
    assert_close(found, activation(name).slopes(q1, q2, k).detach())


@pytest.mark.parametrize("name", ["relu", "erf"])
@pytest.mark.parametrize(("q", "c"), [(0.7, 0.4), (2.0, -0.9), (1.0, 1.0)])
def test_equal_variances_are_those_of_phases(name: str, q: float, c: float):
    known, given = phases._moments(name), numbers(q, q, q * c)
    assert float(activation(name).products(*given)) == pytest.approx(known.covariance(q, c))
    assert float(activation(name).slopes(*given)) == pytest.approx(known.slopes(q, c))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_samples_of_zeros_have_finite_moments(name: str):
    given = numbers(0.0, 1.0, 0.0)
    assert activation(name).products(*given) == 0
    assert torch.isfinite(activation(name).slopes(*given))


def test_unknown_activations_are_refused():
    with pytest.raises(ValueError, match="unknown activation 'selu'; known: erf, gelu, relu"):
        activation("selu")
