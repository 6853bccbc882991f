"""Weights have the variance asked for, and nothing else is left from before."""

import math

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import DerivedNet, Fan, SuperNet, initialize
from darts_gdas.nets.depthwise import Depthwise
from darts_gdas.space import Genotype, SearchSpace


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def large_layers() -> dict[str, tuple[nn.Module, int, int]]:
    """Layers with many weights, with their fan-in and fan-out by hand."""
    return {
        "linear": (nn.Linear(300, 200), 300, 200),
        "dense": (nn.Conv2d(40, 60, 3), 40 * 9, 60 * 9),
        "oblong": (nn.Conv2d(40, 60, (1, 7)), 40 * 7, 60 * 7),
        "grouped": (nn.Conv2d(80, 160, 3, groups=4), 20 * 9, 160 * 9),
        "depthwise": (Depthwise(2000, 5), 25, 2000 * 25),
    }


@pytest.mark.parametrize("mode", list(Fan))
@pytest.mark.parametrize("name", large_layers())
def test_weights_have_the_variance_over_the_fan(name: str, mode: Fan):
    """Sample mean and variance within 4 sigma: sqrt(v / n) and v sqrt(2 / n)."""
    layer, fan_in, fan_out = large_layers()[name]
    initialize(layer, 3.0, mode=mode, generator=rng())
    weights, variance = (
        layer.weight.detach().double(),
        3.0 / (fan_in if mode is Fan.IN else fan_out),
    )
    n = weights.numel()
    assert abs(weights.mean()) < 4 * (variance / n) ** 0.5
    assert float(weights.var()) == pytest.approx(variance, rel=4 * (2 / n) ** 0.5)


@pytest.mark.parametrize("mode", list(Fan))
@pytest.mark.parametrize("name", large_layers())
def test_two_is_kaiming_initialisation_number_by_number(name: str, mode: Fan):
    layer, _, _ = large_layers()[name]
    initialize(layer, 2.0, mode=mode, generator=rng())
    expected = torch.empty_like(layer.weight)
    nn.init.kaiming_normal_(expected, mode=mode.value, nonlinearity="relu", generator=rng())
    assert_close(layer.weight.detach(), expected, rtol=1e-6, atol=0.0)


def test_biases_have_their_own_variance():
    layer = nn.Linear(2, 50_000)
    initialize(layer, 1.0, bias_variance=0.05, generator=rng())
    assert float(layer.bias.detach().var()) == pytest.approx(0.05, rel=4 * (2 / 50_000) ** 0.5)
    initialize(layer, 1.0, generator=rng())
    assert not layer.bias.any()


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, affine=False),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.LayerNorm(4),
        nn.RMSNorm(4),
    ],
)
def test_norms_become_fresh_identities(norm: nn.Module):
    fresh = {name: value.clone() for name, value in norm.state_dict().items()}
    with torch.no_grad():
        for value in (*norm.parameters(), *norm.buffers()):
            value.copy_(torch.full_like(value, 3))
    initialize(nn.Sequential(norm), 1.0)
    for name, value in norm.state_dict().items():
        assert torch.equal(value, fresh[name])


def networks() -> list[nn.Module]:
    return [
        DerivedNet.build(Genotype.load("DARTS_V2"), channels=2, layers=3, auxiliary=False),
        SuperNet.build(SearchSpace.named("darts"), channels=2, layers=3),
    ]


@pytest.mark.parametrize("index", [0, 1])
def test_a_seed_decides_every_parameter_of_our_networks(index: int):
    states = []
    for earlier in (1, 2):
        torch.manual_seed(earlier)
        net = networks()[index]
        initialize(net, 2.0, generator=rng(5))
        states.append(net.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    initialize(net, 2.0, generator=rng(6))
    assert any(not torch.equal(v, states[0][name]) for name, v in net.state_dict().items())


def test_without_a_generator_torchs_own_is_used():
    layer, weights = nn.Linear(3, 3), []
    for _ in range(2):
        torch.manual_seed(3)
        initialize(layer, 1.0)
        weights.append(layer.weight.detach().clone())
    assert torch.equal(*weights)


def test_variances_are_kept_by_critical_relu_layers():
    """He: E[relu(h)^2] weight_variance = E[h^2], here through 5 layers 2000 wide, within 15 %."""
    net = nn.Sequential(*[m for _ in range(5) for m in (nn.Linear(2000, 2000), nn.ReLU())])
    initialize(net, 2.0, generator=rng())
    x = torch.randn(4, 2000, generator=rng(1))
    with torch.no_grad():
        first, last = net[0](x).square().mean(), net[:-1](x).square().mean()
    assert float(last / first) == pytest.approx(1, rel=0.15)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(2, 2), nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.layer(x)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Scaled(), r"parameters of 1 \(Scaled\): only convolutions, linear layers and norms"),
        (nn.ConvTranspose2d(2, 2, 3), r"parameters of 1 \(ConvTranspose2d\)"),
        (nn.Embedding(3, 3), r"parameters of 1 \(Embedding\)"),
    ],
)
def test_parameters_of_other_kinds_are_refused_before_anything_changes(
    other: nn.Module, message: str
):
    net = nn.Sequential(nn.Linear(2, 2), other)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        initialize(net, 2.0)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    with pytest.raises(ValueError, match="parameters of the network"):
        initialize(other, 2.0)


@pytest.mark.parametrize("variance", [-1.0, math.inf, math.nan])
def test_what_is_no_variance_is_refused(variance: float):
    with pytest.raises(ValueError, match="weight_variance must be positive and finite, got"):
        initialize(nn.Linear(2, 2), variance)
    with pytest.raises(ValueError, match="bias_variance must be finite and >= 0, got"):
        initialize(nn.Linear(2, 2), 1.0, bias_variance=variance)
    with pytest.raises(ValueError, match=r"weight_variance must be positive and finite, got 0\.0"):
        initialize(nn.Linear(2, 2), 0.0)
