"""Infinitely wide networks: hand calculations, loops over pixels, and finite networks."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.ntk import (
    Conv,
    Dense,
    Flatten,
    GlobalAverage,
    Nonlinearity,
    finite_network,
    infinite_kernels,
    monte_carlo_nngp,
    monte_carlo_ntk,
)
from darts_gdas.ntk.infinite import _of_inputs
from darts_gdas.ntk.moments import activation

pytestmark = pytest.mark.usefixtures("seeded")


def vectors(count: int = 3) -> Tensor:
    return torch.randn(count, 4).double()


def images(count: int = 2, side: int = 4) -> Tensor:
    return torch.randn(count, 2, side, side).double()


def test_one_hidden_layer_of_relu_is_the_arc_cosine_kernel():
    """Jacot et al.: T = S2 + S1 w2 S2', with the formulas written out."""
    x, (w1, b1, w2, b2) = vectors(2), (1.7, 0.3, 2.0, 0.1)
    a, c, k = (w1 * (x[i] @ x[j]) / 4 + b1 for i, j in ((0, 0), (1, 1), (0, 1)))
    angle = torch.acos(k / (a * c).sqrt())
    products = (a * c).sqrt() / (2 * math.pi) * (angle.sin() + (math.pi - angle) * angle.cos())
    slopes = (math.pi - angle) / (2 * math.pi)
    found = infinite_kernels([Dense(w1, b1), Nonlinearity("relu"), Dense(w2, b2)], x)
    assert_close(found.nngp[0, 1], w2 * products + b2)
    assert_close(found.ntk[0, 1], w2 * products + b2 + w2 * slopes * k)


@pytest.mark.parametrize("end", [Flatten(), GlobalAverage()], ids=repr)
def test_convolutions_average_over_windows_pixel_by_pixel(end: Flatten | GlobalAverage):
    """Oracle: the recursion of Novak et al., eq. (7), with loops over pixels and taps."""
    x, w, b, stride = images(side=5), 1.3, 0.2, 2
    layers = [Conv(3, stride, 1, w, b), Nonlinearity("erf"), Conv(2, 1, 0, w), end, Dense(1.5)]

    def conv(k: dict, side: int, size: int, step: int, pad: int, bias: float) -> tuple[dict, int]:
        out = (side + 2 * pad - size) // step + 1
        made = {}
        for n, m, p, q, r, s in k_places(out):
            total = torch.zeros(()).double()
            for i in range(size):
                for j in range(size):
                    at = [c * step + d - pad for c, d in ((p, i), (q, j), (r, i), (s, j))]
                    if all(0 <= c < side for c in at):
                        total = total + k[(n, m, *at)]
            made[n, m, p, q, r, s] = w * total / size**2 + bias
        return made, out

    def k_places(side: int) -> list[tuple[int, ...]]:
        grids = [torch.arange(2)] * 2 + [torch.arange(side)] * 4
        return [tuple(row) for row in torch.cartesian_prod(*grids).tolist()]

    k = {(n, m, p, q, r, s): x[n, :, p, q] @ x[m, :, r, s] / 2 for n, m, p, q, r, s in k_places(5)}
    k, side = conv(k, 5, 3, stride, 1, b)
    t = dict(k)
    phi = activation("erf")
    own = {
        place: (k[(place[0],) * 2 + place[2:4] * 2], k[(place[1],) * 2 + place[4:] * 2])
        for place in k
    }
    t = {place: t[place] * phi.slopes(*own[place], k[place]) for place in k}
    k = {place: phi.products(*own[place], k[place]) for place in k}
    t, _ = conv(t, side, 2, 1, 0, 0.0)
    k, side = conv(k, side, 2, 1, 0, 0.0)
    t = {place: k[place] + t[place] for place in k}
    nngp, ntk = torch.zeros(2, 2, 2).double()
    for n, m, p, q, r, s in k_places(side):
        if isinstance(end, GlobalAverage) or (p, q) == (r, s):
            count = side**4 if isinstance(end, GlobalAverage) else side**2
            nngp[n, m] += k[n, m, p, q, r, s] / count
            ntk[n, m] += t[n, m, p, q, r, s] / count
    found = infinite_kernels(layers, x)
    assert_close(found.nngp, 1.5 * nngp)
    assert_close(found.ntk, 1.5 * nngp + 1.5 * ntk)


@pytest.mark.parametrize("end", [Flatten(), GlobalAverage()], ids=repr)
def test_other_samples_are_rows_and_columns_of_all(end: Flatten | GlobalAverage):
    x = images(5)
    layers = [Conv(), Nonlinearity("gelu"), end, Dense(), Nonlinearity("relu"), Dense()]
    whole, part = infinite_kernels(layers, x), infinite_kernels(layers, x[:2], x[2:])
    assert_close(part.nngp, whole.nngp[:2, 2:].contiguous())
    assert_close(part.ntk, whole.ntk[:2, 2:].contiguous())


NETWORKS = {
    "erf": ([Dense(1.5, 0.1), Nonlinearity("erf"), Dense(1.0, 0.1)], (4,)),
    "gelu": ([Dense(), Nonlinearity("gelu"), Dense(1.5), Nonlinearity("gelu"), Dense()], (4,)),
    "conv": ([Conv(), Nonlinearity("relu"), Conv(3, 2), Flatten(), Dense(2.0)], (2, 4, 4)),
    "pooled": (
        [Conv(bias_variance=0.2), Nonlinearity("relu"), GlobalAverage(), Dense()],
        (2, 4, 4),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_wide_networks_have_its_kernels_in_the_mean(name: str):
    """At width 128, mean of 60: within 4 standard errors and the 1/128 of a finite width."""
    layers, shape = NETWORKS[name]
    x = torch.randn(3, *shape).double()
    exact = infinite_kernels(layers, x)
    for average, expected in ((monte_carlo_nngp, exact.nngp), (monte_carlo_ntk, exact.ntk)):
        found = average(
            lambda: finite_network(layers, shape, 128, num_outputs=4).double(),
            x,
            draws=60,
            kind="trace",
        )
        room = 4 * found.standard_error / 4 + expected.abs().max() / 128
        assert ((found.mean / 4 - expected).abs() < room).all()


def test_the_mean_over_initialisations_converges_at_rate_one_over_width():
    """Means of 4 * width networks: both the bias and the error of the mean fall as 1 / width."""
    layers: list[Any] = [
        Dense(),
        Nonlinearity("relu"),
        Dense(2.0),
        Nonlinearity("relu"),
        Dense(2.0),
    ]
    x, widths = torch.randn(6, 4).double(), [4, 8, 16, 32, 64]
    exact, errors = infinite_kernels(layers, x), []
    for width in widths:
        found = monte_carlo_ntk(
            lambda width=width: finite_network(layers, (4,), width).double(),
            *(x,),
            draws=4 * width,
            seed=width,
            trusted=True,
        )
        errors.append(float((found.mean - exact.ntk).norm() / exact.ntk.norm()))
    logs = torch.tensor([widths, errors]).double().log()
    centred = logs - logs.mean(1, keepdim=True)
    slope = float((centred[0] @ centred[1]) / (centred[0] @ centred[0]))
    assert -1.35 < slope < -0.65, (slope, errors)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("layers", "x", "message"),
    [
        ([Dense(), Nonlinearity("relu")], torch.ones(2, 3), "last of the layers must be Dense"),
        ([Dense(), "relu", Dense()], torch.ones(2, 3), r"layers must be a list .* got .*'relu'"),
        ([], torch.ones(2, 3), "last of the layers must be Dense"),
        ([Dense()], torch.ones(2, 3, 4, 4), "Dense sees images"),
        ([Flatten(), Conv(), Dense()], torch.ones(2, 3, 4, 4), "Conv needs images"),
        ([GlobalAverage(), Dense()], torch.ones(2, 3), "GlobalAverage needs images"),
        (
            [Conv(7, padding=0), Flatten(), Dense()],
            torch.ones(2, 3, 4, 4),
            "does not fit into 4 x 4",
        ),
        ([Dense()], torch.ones(2, 3, 4), "vectors .* or images"),
        ([Nonlinearity(), Dense()], torch.ones(2, 3), "layer 1, .* inputs must be Gaussian"),
        (
            [Dense(), Nonlinearity("erf"), Nonlinearity("erf"), Dense()],
            torch.ones(2, 3),
            "layer 3, .* inputs must be Gaussian",
        ),
        (
            [Conv(), Nonlinearity(), GlobalAverage(), Nonlinearity(), Dense()],
            torch.ones(2, 3, 4, 4),
            "layer 4, .* inputs must be Gaussian",
        ),
        (
            [Conv(), Flatten(), Nonlinearity(), Dense()],
            torch.ones(2, 3, 4, 4),
            r"layer 3, .* inputs must be Gaussian, .* \(put Flatten\(\) after",
        ),
        ([Dense()], torch.full((2, 3), torch.nan), "not finite"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers: list, x: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        infinite_kernels(layers, x)


def test_means_over_pixels_of_gaussians_are_gaussian():
    """One network of 20,000 channels: within 5 standard errors of the mean over them."""
    x, weight = images(), torch.randn(20_000, 2, 3, 3).double()
    hidden = F.relu((F.conv2d(x, weight, padding=1) / 18**0.5).mean((2, 3)))
    products = hidden[:, None] * hidden
    found = infinite_kernels([Conv(), GlobalAverage(), Nonlinearity("relu"), Dense()], x)
    assert ((products.mean(2) - found.nngp).abs() < 5 * products.std(2) / 20_000**0.5).all()


def test_a_nonlinearity_of_inputs_that_are_not_gaussian_would_be_wrong():
    """Why such layers are refused: two ReLUs are one, yet their expectations are not."""
    x = images(side=3)
    once = infinite_kernels([Conv(), Nonlinearity("relu"), Flatten(), Dense()], x)
    kernels = _of_inputs(x, pairs=False)
    for layer in (Conv(), Nonlinearity("relu"), Nonlinearity("relu"), Flatten(), Dense()):
        kernels = layer(kernels)
    assert (kernels.nngp / once.nngp).diagonal().max() < 0.6


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Nonlinearity("selu"), "unknown activation 'selu'"),
        (lambda: Dense(-1.0), "weight_variance must be finite and >= 0, got -1.0"),
        (lambda: Conv(bias_variance=math.inf), "bias_variance must be finite"),
        (lambda: Dense("1"), "weight_variance must be finite and >= 0, got '1'"),
        (lambda: Conv(0), "size must be a whole number and at least 1, got 0"),
        (lambda: Conv(2.5), "size must be a whole number and at least 1, got 2.5"),
        (lambda: Conv(padding=-1), "padding must be a whole number and at least 0, got -1"),
    ],
)
def test_layers_check_their_numbers(make: Any, message: str):
    with pytest.raises(ValueError, match=message):
        make()
