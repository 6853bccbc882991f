"""A layer as a matrix is the layer."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from darts_gdas.nets.depthwise import Depthwise
from darts_gdas.ntk.matrices import MOST_NUMBERS, MOST_PIXELS, Matrices

LAYERS = {
    # On images that are multiplied as a whole, and on larger ones.
    "strided, with bias": (nn.Conv2d(2, 4, 3, stride=2, padding=1), 2),
    "row": (nn.Conv2d(2, 2, (1, 7), padding=(0, 3), bias=False), 2),
    "depthwise": (Depthwise(2, 5, dilation=2), 2),
    "average": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), 2),
    "channel by channel": (Depthwise(8, 5, dilation=2), 8),
    "channel by channel, strided": (Depthwise(8, 3, stride=2), 8),
    "average of many": (nn.AvgPool2d(3, 1, 1, count_include_pad=False), 8),
    "average, with zeros at the border": (nn.AvgPool2d((3, 2), (1, 2), (1, 0)), 8),
    "average, windows beyond the border": (
        nn.AvgPool2d((3, 2), 2, (1, 1), ceil_mode=True, count_include_pad=False),
        8,
    ),
    "sum of windows, halved": (nn.AvgPool2d(2, (2, 1), ceil_mode=True, divisor_override=2), 8),
    "pointwise": (nn.Conv2d(8, 3, 1, bias=False), 8),
}


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_the_layers_own(name: str):
    layer, channels = LAYERS[name]
    layer = layer.double()
    x = torch.randn(3, channels, 5, 4, dtype=torch.float64, requires_grad=True)
    matrices = Matrices()
    for _ in range(2):  # made, and remembered
        y = matrices.run(layer, x)
        assert y is not None
        assert_close(y, layer(x))
        cotangent = torch.randn_like(y)
        (found,) = torch.autograd.grad(y, x, cotangent)
        (expected,) = torch.autograd.grad(layer(x), x, cotangent)
        assert_close(found, expected)


@pytest.mark.parametrize("kernel", [3, [3, 3], (3,), [3]])
def test_pools_are_written_in_many_ways_and_run_in_many_types(kernel):
    pool, matrices = nn.AvgPool2d(kernel), Matrices()
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(1, 8, 9, 6, dtype=dtype)
        y = matrices.run(pool, x)
        assert y is not None
        assert_close(y, pool(x))


@pytest.mark.parametrize("size", [(9, 1), (1, 9), (17, 16)])
def test_images_of_any_size_are_averaged_and_mixed_by_products(size: tuple[int, int]):
    x = torch.randn(2, MOST_NUMBERS, *size, dtype=torch.float64)
    for layer in (nn.Conv2d(MOST_NUMBERS, 3, 1, bias=False), nn.AvgPool2d(3, 1, 1)):
        y = Matrices().run(layer.double(), x)
        assert y is not None
        assert_close(y, layer(x))


def test_an_image_of_many_numbers_is_left_to_the_library():
    conv, depthwise = nn.Conv2d(1, 1, 3, padding=1, bias=False), Depthwise(MOST_NUMBERS, 3)
    assert Matrices().run(conv, torch.zeros(1, 1, 1, MOST_NUMBERS)) is not None
    assert Matrices().run(nn.Conv2d(1, 2, 3), torch.zeros(1, 1, 3, MOST_NUMBERS)) is None
    assert Matrices().run(depthwise, torch.zeros(1, MOST_NUMBERS, 1, MOST_PIXELS)) is not None
    assert Matrices().run(depthwise, torch.zeros(1, MOST_NUMBERS, 1, MOST_PIXELS + 1)) is None
