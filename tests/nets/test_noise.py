"""Noise: normal, independent of everything, and the same wherever it must be the same."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.testing import assert_close

from darts_gdas.nets import CellMixture, Layout, Mixture, SuperNet
from darts_gdas.nets.noise import Noise, noises, scrambled, standard_normal
from darts_gdas.nets.statistics import tracked_modules, untouched_statistics
from darts_gdas.space import SearchSpace

SHAPE = torch.Size([64, 16, 16, 16])  # 2^18 numbers


def noise(seed: int = 0, stride: int = 1) -> Noise:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Noise(stride)


def draw(seed: int = 0, draws: int = 0) -> Tensor:
    module = noise(seed)
    module.draws.fill_(draws)
    return module(torch.zeros(SHAPE).double())


# The law


def test_it_is_standard_normal():
    """Moments within 5 sigma, and the distance to the distribution function (Kolmogorov)."""
    values = draw().flatten()
    n = len(values)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((values**power).mean() - moment) < 5 * (variance / n) ** 0.5
    expected = (1 + torch.erf(values.sort().values / 2**0.5)) / 2
    empirical = (torch.arange(n) + 0.5) / n
    assert (expected - empirical).abs().max() < 2.2 / n**0.5  # passed with chance 1 - 1e-4
    assert values.isfinite().all() and 4 < values.abs().max() < 5.4


@pytest.mark.parametrize("shift", [1, 16, 256, 4096])
def test_neighbours_are_independent(shift: int):
    """Along channels, columns, rows and images; also their squares."""
    values = draw().permute(0, 2, 3, 1).flatten()
    a, b = values[:-shift], values[shift:]
    assert abs((a * b).mean()) < 5 / len(a) ** 0.5
    assert abs(((a**2 - 1) * (b**2 - 1)).mean()) < 5 * 2 / len(a) ** 0.5


@pytest.mark.parametrize("other", [{"seed": 1}, {"draws": 1}, {"draws": 1000}], ids=str)
def test_modules_and_passes_are_independent(other: dict[str, int]):
    a, b = draw(), draw(**other)
    assert abs((a * b).mean()) < 5 / math.prod(SHAPE) ** 0.5


def test_scrambling_is_a_bijection_of_32_bits():
    x = torch.cat([torch.arange(2**16), 2**32 - 1 - torch.arange(2**16)])
    y = scrambled(x)
    assert len(y.unique()) == len(x) and y.min() >= 0 and y.max() < 2**32


@pytest.mark.parametrize("size", [(8, 8), (7, 9)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_the_input_gives_nothing_but_its_shape(stride: int, size: tuple[int, int]):
    x = torch.full((2, 3, *size), torch.nan).double().requires_grad_()
    y = noise(stride=stride).eval()(x)
    assert y.shape == x[:, :, ::stride, ::stride].shape and y.dtype == x.dtype
    assert y.isfinite().all() and not y.requires_grad


# The same where it must be the same


def test_it_leaves_the_global_generator_alone():
    module, state = noise(), torch.get_rng_state()
    module(torch.zeros(1, 2, 3, 3))
    assert torch.equal(torch.get_rng_state(), state)


def test_training_passes_differ_and_evaluation_repeats():
    module, x = noise(), torch.zeros(2, 3, 4, 4)
    first, second = module(x), module(x)
    assert not torch.equal(first, second)
    module.eval()
    assert torch.equal(module(x), module(x))
    assert module.draws == 2


def test_passes_that_leave_statistics_alone_draw_the_same():
    """So that finite differences do not measure the noise."""
    net, x = nn.Sequential(noise()), torch.zeros(2, 3, 4, 4)
    with untouched_statistics(tracked_modules(net)):
        first, second = net(x), net(x)
    assert torch.equal(first, second)
    assert torch.equal(net(x), first) and not torch.equal(net(x), first)


def test_a_saved_and_loaded_module_goes_on():
    whole, part, x = noise(1), noise(1), torch.zeros(2, 3, 4, 4)
    part(x)
    resumed = noise(2)
    resumed.load_state_dict(part.state_dict())
    whole(x)
    assert torch.equal(whole(x), resumed(x))


def test_recomputed_cells_see_the_noise_of_their_forward_pass():
    space = SearchSpace.named("s4")
    mixture = Mixture({kind: CellMixture(torch.rand(14, 2)) for kind in space.cells})
    net = SuperNet(space, Layout(4, 3, 3))
    lean = copy.deepcopy(net)
    lean.checkpoint_cells = True
    x, found = torch.randn(4, 3, 8, 8), []
    for model in (net, lean):
        for _ in range(2):
            logits = model(x, mixture)
        (logits.square().sum()).backward()
        found.append([parameter.grad for parameter in model.parameters()])
    for (name, _), a, b in zip(net.named_parameters(), *found, strict=True):
        assert torch.equal(a, b), name
    for a, b in zip(noises(net), noises(lean), strict=True):
        assert a.draws == b.draws == 2


def test_per_sample_gradients_by_vmap_are_those_of_batches_of_one():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), noise(), nn.Conv2d(2, 1, 1)).double().eval()
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def output(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(net, weights, (image[None],)).square().sum()

    images = torch.randn(3, 1, 4, 4).double()
    together = vmap(grad(output), (None, 0))(weights, images)
    for i, image in enumerate(images):
        alone = grad(output)(weights, image)
        for name, gradient in alone.items():
            assert_close(together[name][i], gradient, rtol=1e-12, atol=1e-12)


def test_numbers_are_a_function_of_key_and_position_alone():
    """The first images of a larger batch are the same."""
    key = torch.tensor(12345)
    small, large = (standard_normal(torch.Size([n, 3, 4, 5]), key) for n in (2, 6))
    assert torch.equal(large[:2], small)
