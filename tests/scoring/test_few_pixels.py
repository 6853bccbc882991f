"""A layer as a matrix is the layer."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from darts_gdas.nets.depthwise import Depthwise
from darts_gdas.scoring.few_pixels import MOST_NUMBERS, Matrices

LAYERS = (
    nn.Conv2d(2, 4, 3, stride=2, padding=1),
    nn.Conv2d(2, 2, (1, 7), padding=(0, 3), bias=False),
    Depthwise(2, 5, dilation=2),
    nn.AvgPool2d(3, 2, 1, count_include_pad=False),
)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_values_and_gradients_are_the_layers_own(layer: nn.Module):
    layer = layer.double()
    x = torch.randn(3, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    matrices = Matrices()
    for _ in range(2):  # made, and remembered
        y = matrices.run(layer, x)
        assert y is not None
        assert_close(y, layer(x))
        cotangent = torch.randn_like(y)
        (found,) = torch.autograd.grad(y, x, cotangent)
        (expected,) = torch.autograd.grad(layer(x), x, cotangent)
        assert_close(found, expected)


def test_an_image_of_many_numbers_is_left_to_the_library():
    conv = nn.Conv2d(1, 1, 1)
    assert Matrices().run(conv, torch.zeros(1, 1, 1, MOST_NUMBERS)) is not None
    assert Matrices().run(conv, torch.zeros(1, 1, 1, MOST_NUMBERS + 1)) is None
