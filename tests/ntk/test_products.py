"""Products with the kernel, and its extreme eigenvalues, against the kernel itself."""

import pytest
import torch
from scipy.sparse.linalg import ArpackNoConvergence
from torch import nn
from torch.testing import assert_close

from darts_gdas import DerivedNet, Genotype
from darts_gdas.ntk import empirical_ntk, extreme_eigenvalues, ntk_vector_product


@pytest.fixture(params=["mlp", "darts"])
def problem(request: pytest.FixtureRequest) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if request.param == "mlp":
            net, shape = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), (4,)
        else:
            genotype = Genotype.load("DARTS_V2")
            net = DerivedNet.build(genotype, channels=2, layers=3, num_classes=3, auxiliary=False)
            shape = (3, 8, 8)
        x, y = (torch.randn(n, *shape, dtype=torch.float64) for n in (5, 4))
        return net.double().eval(), x, y


@pytest.mark.parametrize("params", ["all", "weights"])
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_a_product_is_that_with_the_dense_kernel(problem, params, chunk_size: int):
    net, x, y = problem
    for other in (None, y):
        columns = x if other is None else other
        v = torch.randn(len(columns), 3, dtype=torch.float64)
        full = empirical_ntk(net, x, other, kind="full", params=params)
        found = ntk_vector_product(net, x, v, other, params=params, chunk_size=chunk_size)
        assert_close(found, torch.einsum("nmab,mb->na", full, v), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("count", [1, 3])
def test_extreme_eigenvalues_are_those_of_the_dense_kernel(problem, count: int):
    net, x, _ = problem
    full = empirical_ntk(net, x, kind="full").permute(0, 2, 1, 3).reshape(15, 15)
    expected = torch.linalg.eigvalsh(full).numpy()
    largest = extreme_eigenvalues(net, x, count=count, tolerance=1e-10)
    smallest = extreme_eigenvalues(net, x, count=count, end="smallest", tolerance=1e-10)
    assert_close(largest, expected[-count:], rtol=1e-8, atol=0)
    # Small ones are known up to the rounding of the largest.
    assert_close(smallest, expected[:count], rtol=0, atol=1e-8 * expected[-1])


def test_products_are_counted():
    """The model runs twice per product, beside the looks at it before."""
    net, calls = nn.Sequential(nn.Linear(4, 40), nn.Tanh(), nn.Linear(40, 3)).double(), []
    x = torch.randn(30, 4, dtype=torch.float64)
    net.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(ArpackNoConvergence, match="no convergence after max_products=10"):
        extreme_eigenvalues(net, x, end="smallest", max_products=10)
    assert 20 <= len(calls) <= 30
    extreme_eigenvalues(net, x, max_products=100)


def test_a_kernel_of_zeros_has_eigenvalues_of_zero():
    model = nn.Linear(3, 4, bias=False)
    for end in ("largest", "smallest"):
        found = extreme_eigenvalues(model, torch.zeros(2, 3), count=2, end=end)
        assert found.tolist() == [0.0, 0.0]
