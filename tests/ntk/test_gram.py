"""Of what type a kernel is, and what rounding does to it."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from darts_gdas.ntk import condition_number, empirical_ntk

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("method", ["structured", "jacobian", "loop", "vector_product"])
@pytest.mark.parametrize(
    ("network", "dtype", "result"),
    [
        (torch.float64, None, torch.float64),
        (torch.float32, None, torch.float32),
        (torch.bfloat16, None, torch.float32),
        (torch.float32, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float32),
    ],
)
def test_a_kernel_is_of_the_type_of_its_rows(
    method: str, network: torch.dtype, dtype: torch.dtype | None, result: torch.dtype
):
    model, x = nn.Linear(3, 2).to(network), torch.randn(4, 3).to(network)
    kernel = empirical_ntk(model, x, kind="trace", method=method, dtype=dtype)
    expected, digits = 2 * (x.double() @ x.double().T + 1), torch.finfo(network).eps
    if method != "vector_product":  # whose vectors are of the network's type
        digits = min(digits, torch.finfo(torch.float32).eps)
    digits = max(digits, torch.finfo(result).eps)
    assert_close(kernel, expected.to(result), rtol=10 * digits, atol=50 * digits)


@pytest.mark.parametrize("method", ["structured", "jacobian", "loop", "vector_product"])
def test_rounding_does_not_make_a_singular_kernel_regular(method: str):
    """A linear layer of 4 weights: a kernel of rank 4, of 12 samples."""
    kernel = empirical_ntk(nn.Linear(3, 1), torch.randn(12, 3), method=method)
    assert condition_number(kernel) == float("inf")
