"""Eigenvalues of kernels: closed forms, invariants, and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.ntk import (
    as_matrix,
    condition_number,
    logdet_normalised,
    max_learning_rate,
    spectrum,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gram(samples: int, outputs: int, parameters: int = 50) -> tuple[Tensor, Tensor]:
    """A Jacobian [samples, outputs, parameters] and its kernel by loops over the definition."""
    jacobian = torch.randn(samples, outputs, parameters, generator=rng()).double()
    kernel = torch.empty(samples, samples, outputs, outputs).double()
    for n in range(samples):
        for m in range(samples):
            for a in range(outputs):
                for b in range(outputs):
                    kernel[n, m, a, b] = jacobian[n, a] @ jacobian[m, b]
    return jacobian, kernel


def with_eigenvalues(values: list[float]) -> Tensor:
    """A kernel with these eigenvalues, in a random basis."""
    n = len(values)
    basis, _ = torch.linalg.qr(torch.randn(n, n, generator=rng()).double())
    return basis @ torch.diag(torch.tensor(values).double()) @ basis.T


def test_four_dimensions_are_flattened_sample_by_sample():
    jacobian, kernel = gram(4, 3)
    rows = jacobian.reshape(12, -1)
    assert_close(as_matrix(kernel), rows @ rows.T, rtol=1e-13, atol=1e-12)


def test_eigenvalues_are_squared_singular_values_of_the_jacobian():
    jacobian, kernel = gram(4, 3)
    expected = torch.linalg.svdvals(jacobian.reshape(12, -1)).square().flip(0)
    found = spectrum(kernel)
    assert_close(found.eigenvalues, expected, rtol=1e-12, atol=0.0)
    assert (found.clipped, found.num_clipped) == (0.0, 0)
    assert condition_number(kernel) == pytest.approx(found.largest / found.smallest, rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_eigenvalues_are_float64_whatever_comes(dtype: torch.dtype):
    values = spectrum(torch.tensor([[2, 1], [1, 2]]).to(dtype)).eigenvalues
    assert_close(values, torch.tensor([1.0, 3.0]).double())


def test_rounding_below_zero_is_clipped_and_reported():
    found = spectrum(with_eigenvalues([-4e-6, -2e-6, 1.0, 2.0]))
    assert found.num_clipped == 2
    assert found.clipped == pytest.approx(-2e-6, rel=1e-6)
    assert found.smallest == 0.0 and found.is_singular
    assert_close(found.eigenvalues, torch.tensor([0, 0, 1, 2]).double(), rtol=1e-9, atol=0.0)


def test_a_float32_kernel_is_symmetric_enough():
    jacobian = torch.randn(20, 500, generator=rng())
    kernel = jacobian @ jacobian.T
    kernel[0, 1] *= 1 + 1e-6
    matrix = as_matrix(kernel)
    assert torch.equal(matrix, matrix.T)


def test_gradients_do_not_flow():
    assert not as_matrix(torch.eye(2, requires_grad=True)).requires_grad


def test_condition_number_of_a_known_spectrum():
    assert condition_number(with_eigenvalues([0.5, 3.0, 100.0])) == pytest.approx(200, rel=1e-12)
    assert condition_number(torch.eye(5)) == 1.0


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_singular_kernels_have_no_condition_number_whatever_their_scale(scale: float):
    """Two equal samples: the smallest eigenvalue is rounding, above or below 0."""
    for seed in range(5):
        rows = torch.randn(6, 40, generator=rng(seed)).double()
        rows[5] = rows[0]
        kernel = scale * rows @ rows.T
        assert condition_number(kernel) == math.inf
        assert logdet_normalised(kernel) == -math.inf


def test_a_dead_network_is_singular():
    dead = torch.zeros(3, 3)
    assert condition_number(dead) == math.inf and logdet_normalised(dead) == -math.inf
    assert max_learning_rate(dead, num_outputs=2) == math.inf


def test_logdet_of_two_correlated_samples():
    """Eigenvalues 1 - c and 1 + c, whatever the variances."""
    c, scale = 0.3, torch.tensor([2.0, 70.0]).double()
    kernel = scale[:, None] * torch.tensor([[1, c], [c, 1]], dtype=torch.float64) * scale
    expected = (math.log(1 - c) + math.log(1 + c)) / 2
    assert logdet_normalised(kernel) == pytest.approx(expected, rel=1e-13)


def test_logdet_equals_the_determinant_over_the_diagonal():
    """log det(D^-1/2 K D^-1/2) = log det K - sum log K_ii (Hadamard: at most 0)."""
    _, kernel = gram(4, 3)
    matrix = as_matrix(kernel)
    expected = (matrix.logdet() - matrix.diagonal().log().sum()) / 12
    assert logdet_normalised(kernel) == pytest.approx(float(expected), rel=1e-12)
    assert expected < 0


def test_logdet_of_uncorrelated_samples_is_zero():
    assert logdet_normalised(torch.diag(torch.tensor([1.0, 5.0, 0.1]))) == 0.0


def test_a_sample_without_gradient_has_no_logdet():
    assert logdet_normalised(torch.diag(torch.tensor([1.0, 0.0, 2.0]))) == -math.inf


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradient_descent_diverges_exactly_beyond_the_maximum(momentum: float):
    """Heavy ball on ||J theta - y||^2 / (2 N O), stepped just below and just above the bound."""
    jacobian, kernel = gram(3, 2, parameters=8)
    rows = jacobian.reshape(6, -1)
    limit = max_learning_rate(kernel, momentum=momentum)
    for factor, stays in ((0.99, True), (1.01, False)):
        theta, velocity = torch.ones(8).double(), torch.zeros(8).double()
        for _ in range(3000):
            velocity = momentum * velocity + rows.T @ (rows @ theta) / 6
            theta = theta - factor * limit * velocity
        assert bool((rows @ theta).norm() < 1e-2) == stays


def test_mean_and_full_kernel_give_one_learning_rate_where_outputs_are_alike():
    """K (x) I_O has the mean kernel K."""
    mean = with_eigenvalues([0.5, 1.0, 4.0])
    full = torch.einsum("nm,ab->nmab", mean, torch.eye(5).double())
    expected = 2 * 3 * 5 / 4.0
    assert max_learning_rate(mean, num_outputs=5) == pytest.approx(expected, rel=1e-12)
    assert max_learning_rate(full) == pytest.approx(expected, rel=1e-12)
    assert max_learning_rate(full, num_outputs=5) == max_learning_rate(full)


def test_the_mean_kernel_promises_too_much_otherwise():
    _, kernel = gram(4, 3)
    mean = kernel.diagonal(dim1=2, dim2=3).mean(-1)
    assert max_learning_rate(mean, num_outputs=3) > max_learning_rate(kernel)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (torch.ones(2, 3), r"got shape \(2, 3\)"),
        (torch.ones(4), r"got shape \(4,\)"),
        (torch.ones(2, 2, 3, 4), r"got shape \(2, 2, 3, 4\)"),
        (torch.ones(2, 3, 2, 2), r"got shape \(2, 3, 2, 2\)"),
        (torch.ones(2, 2, 3), r"one output of a diagonal kernel at a time"),
        (torch.ones(0, 0), r"\(0, 0\) is empty; pass at least one sample"),
        (torch.ones(2, 2, 0, 0), r"\(2, 2, 0, 0\) is empty"),
        (torch.ones(2, 2, dtype=torch.complex64), r"must be real, got torch.complex64"),
        (torch.tensor([[1.0, math.nan], [1.0, math.inf]]), "has 2 NaN or infinite entries of 4"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "differs from its transpose by 0.5 of its"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "negative eigenvalue -1 next to a largest of 3"),
        (-torch.eye(2), "negative eigenvalue -1 next to a largest of -1"),
    ],
)
def test_what_is_no_kernel_is_refused(kernel: Tensor, message: str):
    for function in (spectrum, condition_number, logdet_normalised):
        with pytest.raises(ValueError, match=message):
            function(kernel)
    with pytest.raises(ValueError, match=message):
        max_learning_rate(kernel, num_outputs=None if kernel.ndim == 4 else 3)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan, "0.9"])
def test_momentum_outside_its_range_is_refused(momentum: Any):
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\), got"):
        max_learning_rate(torch.eye(2), num_outputs=1, momentum=momentum)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("num_outputs", "message"),
    [
        (None, "pass the network's number of outputs"),
        (0, "num_outputs must be a whole number and at least 1, got 0"),
        (2.0, "num_outputs must be a whole number and at least 1, got 2.0"),
    ],
)
def test_a_mean_kernel_needs_the_number_of_outputs(num_outputs: Any, message: str):
    with pytest.raises(ValueError, match=message):
        max_learning_rate(torch.eye(2), num_outputs=num_outputs)


@pytest.mark.usefixtures("untyped")
def test_a_list_is_no_kernel():
    for function in (spectrum, condition_number, logdet_normalised, as_matrix):
        with pytest.raises(ValueError, match="kernel must be a tensor, got list"):
            function([[1.0]])


def test_a_contradicting_number_of_outputs_is_refused():
    _, kernel = gram(2, 3)
    with pytest.raises(ValueError, match=r"num_outputs is 4, but the kernel .* has 3"):
        max_learning_rate(kernel, num_outputs=4)
