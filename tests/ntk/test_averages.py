"""Averages over initialisations: the mean and its error, draws that are functions of the seed."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.ntk import empirical_ntk, monte_carlo, monte_carlo_nngp, monte_carlo_ntk
from darts_gdas.ntk.averages import estimate, subset_error

X = torch.tensor([[1.0, 2.0], [0.5, -1.0]]).double()


def layer() -> nn.Module:
    """One output, weights of variance 1."""
    net = nn.Linear(2, 1, bias=False).double()
    nn.init.normal_(net.weight)
    return net


def test_mean_and_error_are_those_of_all_values_at_once():
    values = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).double() + 1e6
    found = estimate(iter(values))
    assert found.count == 9
    assert_close(found.mean, values.mean(0), rtol=1e-14, atol=0)
    assert_close(found.standard_error, values.std(0) / 3, rtol=1e-8, atol=0)


def test_outputs_of_a_linear_layer_have_the_covariance_of_their_inputs():
    """E f(x) f(y) = <x, y>; its variance is <x, y>^2 + |x|^2 |y|^2: the error bar, within 15 %."""
    found = monte_carlo_nngp(layer, X, draws=400, seed=1)
    gram = X @ X.T
    variance = gram.square() + torch.outer(gram.diagonal(), gram.diagonal())
    assert_close(found.standard_error, (variance / 400).sqrt(), rtol=0.15, atol=0)
    assert ((found.mean - gram).abs() < 4 * found.standard_error).all()


def test_a_kernel_that_does_not_vary_has_no_error():
    found = monte_carlo_ntk(layer, X, draws=3, kind="trace", method="structured")
    assert_close(found.mean, X @ X.T)
    assert not found.standard_error.any()


def test_draws_are_functions_of_the_seed_and_leave_torchs_generator_alone():
    before = torch.get_rng_state()
    weights: list[Tensor] = []

    def kernel(net: nn.Module) -> Tensor:
        weights.append(net.weight.detach())  # type: ignore[arg-type]
        return empirical_ntk(net, X)

    for seed in (0, 0, 1):
        monte_carlo(layer, kernel, draws=2, seed=seed)
    first, second, again, _, other, _ = weights
    assert torch.equal(first, again)
    assert not torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_error_of_a_part_is_that_of_drawing_without_replacement():
    """Over all parts of 2 of 5 numbers: the mean squared error bar is the variance of means."""
    numbers = torch.tensor([1.0, 4.0, 2.0, 8.0, 5.0]).double()
    pairs = torch.stack([numbers[[i, j]] for i in range(5) for j in range(i)])
    expected = (pairs.mean(1) - numbers.mean()).square().mean()
    assert_close(subset_error(pairs, 5).square().mean(), expected)
    assert subset_error(numbers, 5) == 0


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 2.5}, "draws must be a whole number and at least 2"),
        ({"draws": 1}, "draws must be a whole number and at least 2"),
        ({"draws": 2, "seed": -1}, "seed must be"),
    ],
)
def test_bad_input_is_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        monte_carlo_ntk(layer, X, **options)


def test_a_kernel_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match="draw 0 is a kernel with numbers that are not finite"):
        monte_carlo(layer, lambda net: torch.tensor([torch.nan]), draws=2)


@pytest.mark.usefixtures("untyped")
def test_a_kernel_that_is_no_tensor_is_named():
    with pytest.raises(ValueError, match=r"draw 0 must be a tensor, got float"):
        monte_carlo(layer, lambda net: 1.0, draws=2)
