"""Networks in the parametrisation of infinite width."""

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.ntk import Conv, Dense, Flatten, GlobalAverage, Nonlinearity, finite_network


def test_it_computes_the_scaled_products():
    net = finite_network([Dense(1.5, 0.3), Nonlinearity("erf"), Dense(2.0)], (3,), 5).double()
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).double()
    first, bias, last = net.parameters()
    hidden = torch.erf(x @ first.T * (1.5 / 3) ** 0.5 + 0.3**0.5 * bias)
    assert_close(net(x), hidden @ last.T * (2.0 / 5) ** 0.5)


def test_images_go_through():
    layers = [
        Conv(3, 2, 1, 2.0, 0.1),
        Nonlinearity("gelu"),
        Conv(1, 1, 0),
        GlobalAverage(),
        Dense(),
    ]
    assert finite_network(layers, (3, 8, 8), 6, num_outputs=4)(torch.ones(2, 3, 8, 8)).shape == (
        2,
        4,
    )
    layers = [Conv(), Flatten(), Dense()]
    assert finite_network(layers, (3, 4, 4), 6)(torch.ones(2, 3, 4, 4)).shape == (2, 1)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("layers", "width", "message"),
    [
        ([Dense()], 0, "width must be a whole number and at least 1, got 0"),
        ([Dense()], 2.0, "width must be a whole number and at least 1, got 2.0"),
        (["x", Dense()], 4, r"layers must be a list of Dense, .* got \['x', Dense"),
        ([GlobalAverage(), Dense()], 4, r"layer 1, GlobalAverage\(\): .* needs images"),
        ([Dense(), Nonlinearity()], 4, "last of the layers must be Dense"),
    ],
)
def test_bad_input_is_refused(layers: list, width: int, message: str):
    with pytest.raises(ValueError, match=message):
        finite_network(layers, (3,), width)


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ([Conv(), Nonlinearity(), Dense()], (3, 8, 8), r"layer 3, .* Dense sees images"),
        ([Dense(), Flatten(), Dense()], (3,), "layer 2, .* Flatten needs images"),
        ([Nonlinearity(), Dense()], (3,), "layer 1, .* inputs must be Gaussian"),
        ([Conv(9, padding=0), Flatten(), Dense()], (3, 8, 8), "layer 1, .* does not fit samples"),
    ],
)
def test_a_network_without_the_kernels_is_not_built(layers: list, shape: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        finite_network(layers, shape, 8)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("shape", [(), (3, 4), 3, (3.0,), (0,)])
def test_the_shape_of_a_sample_is_checked(shape: object):
    with pytest.raises(ValueError, match="input_shape must be"):
        finite_network([Dense()], shape, 4)


def test_one_layer_may_stand_in_several_places():
    dense, phi = Dense(2.0), Nonlinearity("relu")
    net = finite_network([dense, phi, dense, phi, dense], (3,), 7, num_outputs=2)
    assert [tuple(p.shape) for p in net.parameters()] == [(7, 3), (7, 7), (2, 7)]
