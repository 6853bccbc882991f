"""Layers cut off from their weights, in the type in which the library computes them."""

import copy

import pytest
import torch
from torch import nn

from darts_gdas.ntk import empirical_ntk

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norms_in_half_precision_keep_the_digits_of_autograd(dtype: torch.dtype):
    """Inputs with a mean of 16 and a deviation below 1: products and means of them cancel."""
    norm = nn.BatchNorm2d(8)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), norm, nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
    )
    nn.init.constant_(model[0].bias, 16.0)  # type: ignore[arg-type]
    norm.momentum = None  # the mean of all batches
    model(torch.randn(64, 3, 8, 8))
    model, x = model.eval().to(dtype), torch.randn(6, 3, 8, 8).to(dtype)

    def kernel(net: nn.Module, x: torch.Tensor, method: str) -> torch.Tensor:
        return empirical_ntk(
            net, x, kind="full", method=method, params=lambda name, _: name == "1.weight"
        )

    exact = kernel(copy.deepcopy(model).double(), x.double(), "loop")
    errors = {m: float((kernel(model, x, m) - exact).norm()) for m in ("structured", "loop")}
    assert errors["structured"] < 1.2 * errors["loop"], errors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_few_pixels_in_half_precision_keep_the_digits_of_autograd(dtype: torch.dtype):
    """A bias of 16 beside weights of 0.1, removed again by the norm behind it."""
    conv, norm = nn.Conv2d(2, 3, 3, padding=1), nn.LayerNorm(48, elementwise_affine=False)
    nn.init.constant_(conv.bias, 16.0)  # type: ignore[arg-type]
    model = nn.Sequential(conv, nn.Flatten(), norm, nn.Tanh(), nn.Linear(48, 3)).to(dtype)
    x = torch.randn(6, 2, 4, 4).to(dtype)
    exact = empirical_ntk(copy.deepcopy(model).double(), x.double(), method="loop")
    errors = {
        m: float((empirical_ntk(model, x, method=m) - exact).norm()) for m in ("structured", "loop")
    }
    assert errors["structured"] < 1.2 * errors["loop"], errors
