"""Activation patterns and linear regions against geometry, hooks and brute force."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_gdas.nets import DerivedNet, SuperNet
from darts_gdas.ntk import activation_patterns, linear_regions
from darts_gdas.ntk.regions import agreements
from darts_gdas.search import ArchParameters, Softmax
from darts_gdas.space import Genotype, SearchSpace


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Functional(nn.Module):
    """Layers with one of many ways to call a ReLU in between."""

    def __init__(self, relu) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(2, 5), nn.Linear(5, 3), relu

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(x))))


class CustomReLU(torch.autograd.Function):
    """A ReLU where only the dispatcher sees it."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.relu(x)


def lines(angles: int) -> nn.Sequential:
    """A ReLU unit per line through the origin of the plane."""
    layer = nn.Linear(2, angles, bias=False)
    turn = torch.arange(angles) * torch.pi / angles
    layer.weight = nn.Parameter(torch.stack([turn.cos(), turn.sin()], dim=1))
    return nn.Sequential(layer, nn.ReLU())


def brute_force(patterns: Tensor) -> int:
    return len({tuple(row.tolist()) for row in patterns})


def hooked(net: nn.Module, x: Tensor) -> Tensor:
    """Patterns by forward hooks on `nn.ReLU` modules."""
    seen = []
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _m, _i, out: seen.append((out > 0).flatten(1)))
    net(x)
    return torch.cat(seen, dim=1)


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 2, 3),
        nn.ReLU(),
    )


@pytest.mark.parametrize("angles", [1, 3, 8])
def test_lines_through_the_origin_cut_the_plane_into_twice_as_many_parts(angles: int):
    turn = torch.linspace(0, 2 * torch.pi, 1001)[:-1] + 1e-3
    circle = torch.stack([turn.cos(), turn.sin()], dim=1)
    assert linear_regions(lines(angles), circle) == 2 * angles


def test_a_hypercube_visits_every_orthant():
    x = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=9)))
    assert linear_regions(nn.ReLU(), x) == 2**9
    assert linear_regions(nn.ReLU(), x.repeat(3, 1)) == 2**9


def test_samples_in_one_region_see_one_affine_function():
    """Two samples with equal patterns: the network is affine on the segment between them."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 1))
    net, x = net.double(), torch.randn(300, 2, generator=rng()).double()
    patterns, affine = activation_patterns(net, x), {True: 0, False: 0}
    for i, j in itertools.combinations(range(60), 2):
        middle, mean = net((x[i] + x[j]) / 2), (net(x[i]) + net(x[j])) / 2
        is_affine = bool((middle - mean).abs().max() < 1e-12)
        if torch.equal(patterns[i], patterns[j]):
            assert is_affine
        affine[is_affine] += 1
    assert min(affine.values()) > 10  # both happen


@pytest.mark.parametrize("chunk_size", [None, 1, 7, 100])
def test_counts_and_patterns_agree_with_hooks(chunk_size: int | None):
    net, x = convolutional().eval(), torch.randn(20, 1, 4, 4, generator=rng())
    x = torch.cat([x, x[:5]])
    expected = hooked(convolutional().eval(), x)
    assert torch.equal(activation_patterns(net, x, chunk_size=chunk_size), expected)
    assert linear_regions(net, x, chunk_size=chunk_size) == brute_force(expected)


@pytest.mark.parametrize(
    "relu",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        F.relu,
        lambda x: F.relu(x, inplace=True),
        torch.relu,
        torch.relu_,
        Tensor.relu,
        Tensor.relu_,
        CustomReLU.apply,
        lambda x: torch.ops.aten.relu.out(x, out=torch.empty_like(x)),
    ],
    ids=range(10),
)
def test_every_way_to_call_a_relu_is_seen(relu):
    torch.manual_seed(0)
    net, x = Functional(relu), torch.randn(50, 2, generator=rng())
    hidden = net.first(x)
    expected = torch.cat([hidden > 0, net.second(hidden.clamp(min=0)) > 0], dim=1)
    assert torch.equal(activation_patterns(net, x), expected)
    assert linear_regions(net, x) == brute_force(expected)


@pytest.mark.parametrize("units", [1, 7, 8, 9, 64])
def test_no_unit_is_lost_in_packing(units: int):
    """One-hot patterns differ in a single unit, wherever it stands."""
    x = torch.cat([torch.eye(units), torch.zeros(1, units)])
    assert linear_regions(nn.ReLU(), x) == units + 1


def test_patterns_of_several_layers_are_told_apart_together():
    """Each layer alone shows 2 patterns, the pair shows 4."""

    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0].relu() + x[:, 1].relu()

    x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0], [2.0, 3.0]])
    assert linear_regions(Two(), x) == 4


@pytest.mark.parametrize("training", [True, False])
def test_a_model_runs_as_it_stands_and_keeps_its_buffers(training: bool):
    net, x = convolutional().train(training), torch.randn(20, 1, 4, 4, generator=rng()) + 3
    before = {name: value.clone() for name, value in net.state_dict().items()}
    patterns = activation_patterns(net, x)
    assert linear_regions(net, x) == brute_force(patterns)
    assert net.training == training
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(patterns, hooked(convolutional().train(training), x))


class Writing(nn.Module):
    """Writes into its weight, and keeps what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.kept = nn.Linear(2, 3), []

    def forward(self, x: Tensor) -> Tensor:
        self.layer.weight.data.add_(1.0)
        self.kept.append(self.layer(x))
        return torch.relu(self.kept[-1])


@pytest.mark.parametrize("function", [activation_patterns, linear_regions])
def test_a_model_is_afterwards_what_it_was(function):
    net = Writing()
    before = net.layer.weight.detach().clone()
    function(net, torch.randn(6, 2, generator=rng()), chunk_size=4)
    assert torch.equal(net.layer.weight, before) and not net.kept


def test_gradients_are_not_recorded():
    x = torch.randn(4, 1, 4, 4, generator=rng(), requires_grad=True)
    assert not activation_patterns(convolutional(), x).requires_grad


def test_supernets_and_derived_networks_have_regions():
    """Their fused cells call ReLUs inside and outside of modules, also in place."""
    torch.manual_seed(0)
    x = torch.randn(16, 3, 8, 8, generator=rng())
    derived = DerivedNet.build(Genotype.load("DARTS_V2"), channels=2, layers=3, auxiliary=False)
    space = SearchSpace.named("darts")
    supernet = SuperNet.build(space, channels=2, layers=3)
    mixture = Softmax()(ArchParameters(space))

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.supernet = supernet

        def forward(self, images: Tensor) -> Tensor:
            return self.supernet(images, mixture)

    for net in (derived.eval(), Mixed()):
        patterns = activation_patterns(net, x)
        assert patterns.shape[1] > 1000 and 0.1 < patterns.double().mean() < 0.9
        assert linear_regions(net, x) == brute_force(patterns) == 16


@pytest.mark.parametrize("function", [activation_patterns, linear_regions])
def test_what_has_no_patterns_is_refused(function):
    x = torch.randn(6, 2)
    with pytest.raises(ValueError, match="Linear runs no ReLU, so it has no activation patterns"):
        function(nn.Linear(2, 2), x)
    regrouped = nn.Sequential(nn.Unflatten(0, (3, 2)), nn.ReLU())
    with pytest.raises(ValueError, match=r"shape \(3, 2, 2\) for 6 samples; .* first dimension"):
        function(regrouped, x)
    for empty in (torch.ones(0, 2), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="x must hold samples in its first dimension"):
            function(nn.ReLU(), empty)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("function", [activation_patterns, linear_regions])
def test_bad_input_is_refused(function):
    x = torch.randn(6, 2)
    for size in (0, "a", 2.5):
        with pytest.raises(ValueError, match=f"chunk_size, .* must be a whole .* got {size!r}"):
            function(nn.ReLU(), x, chunk_size=size)
    with pytest.raises(ValueError, match="x must be a tensor, got ndarray"):
        function(nn.ReLU(), x.numpy())
    with pytest.raises(ValueError, match=r"the model must be a torch.nn.Module, got NoneType"):
        function(None, x)


@pytest.mark.parametrize("track", [True, False])
def test_chunks_that_would_change_batch_statistics_are_refused(track: bool):
    norm = nn.BatchNorm1d(2, track_running_stats=track)
    net, x = nn.Sequential(norm, nn.ReLU()).train(track), torch.randn(6, 2)
    with pytest.raises(ValueError, match="chunk_size=4 would change the patterns: batch norms"):
        linear_regions(net, x, chunk_size=4)
    assert linear_regions(net, x, chunk_size=6) >= 1


@pytest.mark.parametrize("function", [activation_patterns, linear_regions])
def test_samples_that_do_not_fit_are_one_line(function):
    with pytest.raises(
        ValueError, match=r"^the model fails for samples of shape \(6, 3\) in .*mat1"
    ):
        function(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.randn(6, 3))


@pytest.mark.parametrize("units", [1, 7, 2**20 + 3])
def test_samples_agree_where_both_are_active_or_neither(units: int):
    patterns = torch.rand(3, units) < torch.tensor([0.2, 0.5, 0.9])[:, None]
    expected = [[int((a == b).sum()) for b in patterns] for a in patterns]
    assert agreements(patterns).tolist() == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert agreements(patterns).tolist() == expected


def test_a_network_of_inference_mode_has_patterns_too():
    with torch.inference_mode():
        net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU())
    x = torch.randn(4, 2)
    with torch.no_grad():
        expected = nn.functional.batch_norm(net[0](x), None, None, training=True) > 0
    assert torch.equal(activation_patterns(net, x), expected)
