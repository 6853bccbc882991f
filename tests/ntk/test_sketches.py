"""Approximations: without bias, within their error bars, exact where all is drawn."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from darts_gdas.ntk import empirical_ntk, projected_ntk, subsampled_ntk
from tests.ntk.networks import make

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("kind", ["sum", "trace", "diagonal", "full"])
def test_projections_are_right_in_the_mean(kind: str):
    """200 directions: within four error bars, which are a fraction of the kernel."""
    model, x1, x2 = make("mlp")
    exact = empirical_ntk(model, x1, x2, kind=kind)
    found = projected_ntk(model, x1, x2, kind=kind, projections=200, chunk_size=2)
    assert ((found.mean - exact).abs() < 4 * found.standard_error).all()
    assert found.standard_error.norm() < 0.5 * exact.norm()


def test_four_times_the_directions_halve_the_error_bar():
    model, x, _ = make("mlp")
    few, many = (projected_ntk(model, x, projections=n).standard_error.norm() for n in (100, 400))
    assert float(few / many) == pytest.approx(2, rel=0.2)


def test_one_parameter_has_no_error():
    """Signs square to one."""
    model = nn.Linear(1, 1, bias=False).double()
    x = torch.tensor([[2.0], [3.0]]).double()
    found = projected_ntk(model, x, kind="trace", projections=2)
    assert_close(found.mean, x @ x.T)
    assert not found.standard_error.any()


def test_all_outputs_are_the_trace_without_error():
    model, x1, x2 = make("cnn")
    found = subsampled_ntk(model, x1, x2, outputs=3)
    assert_close(found.mean, empirical_ntk(model, x1, x2, kind="trace"))
    assert not found.standard_error.any()
    assert not model._forward_hooks


def test_parts_of_outputs_are_right_in_the_mean():
    """Mean over 200 draws of 4 of 12 outputs, in units of its own error."""
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 12)).double()
    x = torch.randn(3, 3).double()
    exact = empirical_ntk(model, x, kind="trace")
    draws = [subsampled_ntk(model, x, outputs=4, seed=i, trusted=True) for i in range(200)]
    means = torch.stack([d.mean for d in draws])
    assert ((means.mean(0) - exact).abs() < 4 * means.std(0) / 200**0.5).all()
    bars = torch.stack([d.standard_error for d in draws]).square().mean(0).sqrt()
    assert_close(bars, means.std(0), rtol=0.2, atol=0)


@pytest.mark.parametrize("batch_norm", ["frozen", "batch"])
def test_norms_may_use_the_batch(batch_norm: str):
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()
    x = torch.randn(5, 4).double()
    found = subsampled_ntk(net, x, outputs=3, batch_norm=batch_norm)
    assert_close(found.mean, empirical_ntk(net, x, kind="trace", batch_norm=batch_norm))
    with pytest.raises(ValueError, match=r"batch norm '1' uses .*call model\.eval\(\)"):
        subsampled_ntk(net, x, outputs=2)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m, x: projected_ntk(m, x, projections=1),
            "projections must be a whole number and at least 2",
        ),
        (lambda m, x: projected_ntk(m, x, projections=2, chunk_size=0), "chunk_size must be"),
        (
            lambda m, x: subsampled_ntk(m, x, outputs=1),
            "outputs must be a whole number and at least 2, got 1",
        ),
        (
            lambda m, x: subsampled_ntk(m, x, outputs=4),
            r"outputs, of .* must be a whole number in 2\.\.3, got 4",
        ),
        (lambda m, x: subsampled_ntk(m, x, outputs=2, kind="full"), "leave it out"),
    ],
)
def test_bad_input_is_refused(call, message: str):
    model, x, _ = make("mlp")
    with pytest.raises(ValueError, match=message):
        call(model, x)


def test_one_output_has_no_part():
    with pytest.raises(
        ValueError, match=r"^the model has 1 output, so there is none to leave out;"
    ):
        subsampled_ntk(nn.Linear(3, 1), torch.ones(4, 3), outputs=2)
