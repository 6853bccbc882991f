import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from darts_gdas.search.curvature import dominant_eigenvalue, hessian_product


def symmetric(size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return matrix + matrix.T


def start(size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 30))
def test_the_eigenvalue_of_largest_magnitude_is_found_with_its_sign(seed: int, size: int):
    """Against a dense eigendecomposition, of positive and negative ends alike."""
    matrix = symmetric(size, seed)
    values = torch.linalg.eigvalsh(matrix)
    expected = float(values[values.abs().argmax()])
    found = dominant_eigenvalue(
        lambda v: matrix @ v, start(size, seed), max_products=size, tolerance=1e-12
    )
    # Two ends of nearly equal magnitude may be told apart by rounding alone.
    assert abs(found) == pytest.approx(abs(expected), rel=1e-9)
    assert float((values - found).abs().min()) < 1e-9 * abs(expected)


def test_few_products_are_enough_where_one_eigenvalue_stands_out():
    """diag(-50, 1, 2, ... 199)/199: the outlier converges long before all 200 products."""
    diagonal = torch.arange(200, dtype=torch.float64) / 199
    diagonal[0] = -50.0
    calls = []

    def product(v: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return diagonal * v

    assert dominant_eigenvalue(product, start(200)) == pytest.approx(-50.0, rel=1e-6)
    assert len(calls) < 10


def test_an_invariant_subspace_ends_the_iteration():
    """A multiple of the identity: the first vector is an eigenvector already."""
    assert dominant_eigenvalue(lambda v: 3.0 * v, start(7)) == pytest.approx(3.0)
    assert dominant_eigenvalue(torch.zeros_like, start(7)) == 0.0


def test_what_is_not_finite_is_not_a_number():
    assert math.isnan(dominant_eigenvalue(lambda v: v * torch.inf, start(3)))
    for bad in (torch.zeros(3).double(), torch.full((3,), torch.nan).double()):
        with pytest.raises(ValueError, match="start vector must be finite and not zero"):
            dominant_eigenvalue(lambda v: v, bad)


def test_products_are_those_of_the_dense_hessian():
    """f(x, y) = sum exp(A z) with z = (x, y): H = A^T diag(exp(A z)) A."""
    a = start(24).reshape(4, 6) / 3
    x, y = start(2, 1), start(4, 2).reshape(2, 2)

    def loss(parts):
        return (a @ torch.cat([part.flatten() for part in parts])).exp().sum()

    product = hessian_product(loss, [x, y])
    z = torch.cat([x, y.flatten()])
    dense = a.T @ torch.diag((a @ z).exp()) @ a
    assert_close(torch.stack([product(e) for e in torch.eye(6).double()]), dense)
    again = torch.autograd.functional.hessian(lambda z: (a @ z).exp().sum(), z)
    assert_close(torch.as_tensor(again), dense)
    assert x.grad is None and not x.requires_grad


def test_what_the_loss_does_not_depend_on_has_no_curvature():
    x, unused = start(3), start(2)
    product = hessian_product(lambda parts: (parts[0] ** 3).sum(), [x, unused])
    dense = torch.stack([product(e) for e in torch.eye(5).double()])
    assert_close(dense, torch.diag(torch.cat([6 * x, torch.zeros(2).double()])))
    linear = hessian_product(lambda parts: parts[0].sum(), [x])
    assert torch.equal(linear(x), torch.zeros(3).double())
    constant = hessian_product(lambda parts: torch.ones(()).double(), [x])
    assert torch.equal(constant(x), torch.zeros(3).double())


def test_a_product_keeps_the_vectors_type():
    product = hessian_product(lambda parts: (parts[0] ** 2).sum(), [torch.ones(3)])
    assert_close(product(start(3)), 2 * start(3), rtol=1e-6, atol=1e-6)
