"""What networks and operations cost: published figures, closed forms, a clock of our own."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_gdas.nets import (
    OPERATIONS,
    DerivedNet,
    Layout,
    count_multiply_adds,
    count_parameters,
)
from darts_gdas.nets import costs as costing
from darts_gdas.nets.candidates import SeparableConv
from darts_gdas.nets.costs import (
    PartCost,
    kept_bytes,
    measure,
    multiply_adds,
    time_parts,
    whole,
)
from darts_gdas.space import Genotype

CPU = torch.device("cpu")
MILLION = 1e6


def published(name: str, **numbers: object) -> DerivedNet:
    with torch.device("meta"):
        return DerivedNet.build(Genotype.load(name), **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_network_that_runs_counts_what_its_shapes_count(name: str):
    net = OPERATIONS[name].build(4, 2, True)
    assert multiply_adds(net, torch.zeros(1, 4, 6, 6)) == count_multiply_adds(net, (4, 6, 6))


def test_weights_of_other_modules_are_counted_by_their_products():
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(6, 5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    assert multiply_adds(Product(), torch.zeros(1, 4, 3, 6)) == 4 * 3 * 6 * 5


class Attention(nn.Module):
    """A convolution, then pixels that look at each other: products that belong to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.conv(x).flatten(2).mT
        return F.scaled_dot_product_attention(pixels, pixels, pixels)


def test_products_between_layers_count():
    """Also on a CPU, where torch's counter takes attention for nothing."""
    pixels = 5 * 6
    expected = 4 * 8 * pixels + 2 * pixels**2 * 8
    assert count_multiply_adds(Attention(), (4, 5, 6)) == expected
    assert multiply_adds(Attention(), torch.zeros(1, 4, 5, 6)) == expected


@pytest.mark.parametrize(
    ("name", "millions"), [("DARTS_V1", 500.99), ("DARTS_V2", 528.36), ("GDAS_V1", 519.43)]
)
def test_published_networks_cost_the_published_multiply_adds(name: str, millions: float):
    counted = count_multiply_adds(published(name), (3, 32, 32))
    assert counted / MILLION == pytest.approx(millions, rel=1e-3)


def test_gdas_on_imagenet_costs_581_million_multiply_adds():
    net = published("GDAS_V1", channels=50, layers=14, num_classes=1000, stem="imagenet")
    counted = count_multiply_adds(net, (3, 224, 224))
    assert counted / MILLION == pytest.approx(581, rel=1e-3)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 2)])
def test_a_convolution_costs_one_per_weight_and_output_pixel(
    kernel: int, stride: int, groups: int, bias: bool
):
    net = nn.Conv2d(4, 6, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)
    pixels = -(-8 // stride) * -(-6 // stride)
    assert count_multiply_adds(net, (4, 8, 6)) == 6 * (4 // groups) * kernel**2 * pixels
    assert count_parameters(net) == 6 * (4 // groups) * kernel**2 + 6 * bias


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_separable_convolution_costs_its_four_convolutions(kernel: int, stride: int):
    net = OPERATIONS[f"sep_conv_{kernel}x{kernel}"].build(4, stride, True)
    weights, pixels = kernel**2 * 4 + 4 * 4, (8 // stride) ** 2
    assert count_multiply_adds(net, (4, 8, 8)) == 2 * weights * pixels


@pytest.mark.parametrize("name", ["none", "skip_connect", "max_pool_3x3", "avg_pool_3x3"])
def test_what_has_no_weights_costs_nothing(name: str):
    assert count_multiply_adds(OPERATIONS[name].build(4, 1, True), (4, 8, 8)) == 0


def test_a_linear_layer_costs_its_matrix():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 2, 5))
    assert count_multiply_adds(net, (4, 3, 2)) == 4 * 3 * 2 * 5
    assert count_parameters(net) == 4 * 3 * 2 * 5 + 5


def test_the_auxiliary_head_is_not_counted():
    with_head, without = (published("DARTS_V2", auxiliary=auxiliary) for auxiliary in (True, False))
    assert count_parameters(with_head) == count_parameters(without)
    assert count_multiply_adds(with_head, (3, 8, 8)) == count_multiply_adds(without, (3, 8, 8))
    everything = sum(parameter.numel() for parameter in with_head.parameters())
    assert everything - count_parameters(with_head) == 476_426


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_counting_leaves_the_network_as_it_was(training: bool):
    layout = Layout(channels=4, layers=3, num_classes=5)
    net = DerivedNet(Genotype.load("DARTS_V2"), layout, auxiliary=True).train(training)
    net.cells[0].requires_grad_(False)
    net.cells[1].train(not training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flags = [module.training for module in net.modules()]
    learnt = [parameter.requires_grad for parameter in net.parameters()]
    identities = [id(parameter) for parameter in net.parameters()]
    assert count_multiply_adds(net, (3, 8, 8)) > 0
    assert {value.device.type for value in net.state_dict().values()} == {"cpu"}
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == flags
    assert [parameter.requires_grad for parameter in net.parameters()] == learnt
    assert [id(parameter) for parameter in net.parameters()] == identities


def test_multiply_adds_are_for_one_image_at_any_size():
    """Four times the pixels cost four times the convolutions and one classifier."""
    net = published("DARTS_V2", channels=4, layers=3)
    classifier = 4 * 16 * 10
    small, large = (count_multiply_adds(net, (3, side, side)) for side in (16, 32))
    assert large - classifier == 4 * (small - classifier)


def test_a_compiled_network_is_counted_too():
    net = nn.Conv2d(2, 3, 1)
    plain = count_multiply_adds(net, (2, 4, 4))
    net.compile(backend="eager", fullgraph=True)
    assert count_multiply_adds(net, (2, 4, 4)) == plain == 2 * 3 * 16


def test_a_separable_convolution_by_hand():
    """ReLU's output, the depthwise one's and the pointwise one's, and the norm's statistics."""
    channels, pixels = 4, 8 * 8
    net = SeparableConv(channels, 3, 1, True)
    (cost,) = measure(net, [net], whole, (channels, 8, 8), CPU, (1,), is_inside=True)
    assert cost.parameters == channels * 9 + channels**2 + 2 * channels
    assert cost.multiply_adds == pixels * (channels * 9 + channels**2)
    assert cost.memory == 4 * (3 * channels * pixels + 2 * channels // 2)
    assert len(cost.milliseconds) == 1


@pytest.mark.parametrize("is_inside", [True, False])
def test_images_are_kept_by_a_network_but_not_by_a_part_that_is_handed_them(is_inside: bool):
    """A convolution keeps its input for its weight's gradient, and nothing else."""
    net = nn.Conv2d(3, 2, 1, bias=False)
    (cost,) = measure(net, [net], whole, (3, 4, 5), CPU, (1,), is_inside=is_inside)
    assert cost.memory == (0 if is_inside else 4 * 3 * 4 * 5)


class Twice(nn.Module):
    """Keeps its input, twice in each of two parts, and a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + (x.t() * self.weight.t()).t()


def test_a_tensor_kept_twice_counts_once_where_it_is_kept_first():
    def run(net: nn.Module, x: Tensor, mark: Callable[[], None]) -> None:
        for _ in range(2):
            net(x)
            mark()

    assert kept_bytes(Twice(), run, torch.ones(3, 5)) == [4 * 15 // 3, 0]
    assert kept_bytes(Twice(), run, torch.ones(3, 5, requires_grad=True)) == [0, 0]


def test_parts_are_timed_from_mark_to_mark(monkeypatch: pytest.MonkeyPatch):
    """A clock that a part moves by its own seconds; medians over passes that take longer each."""
    clock = {"now": 0.0, "pass": 0}

    def run(net: nn.Module, x: Tensor, mark: Callable[[], None]) -> None:
        clock["pass"] += 1
        for seconds in (1.0, 3.0):
            clock["now"] += seconds * clock["pass"]
            mark()

    monkeypatch.setattr("time.perf_counter", lambda: clock["now"])
    monkeypatch.setattr(costing, "MOST", 5)
    median = costing.WARM_UP + 3
    found = time_parts(nn.Identity(), run, torch.ones(1))
    assert found == pytest.approx([1e3 * median, 3e3 * median])


def test_costs_add_up_with_and_without_times():
    a, b = PartCost(1, 2, 3, (4.0, 5.0)), PartCost(10, 20, 30, (40.0, 50.0))
    assert a + b == PartCost(11, 22, 33, (44.0, 55.0))
    assert PartCost() + a == a + PartCost() == a


@pytest.mark.parametrize(
    ("most", "enough", "longest", "passes"), [(5, 9, 9, 5), (5, 0, 9, 3), (5, 0, 0, 1)]
)
def test_slow_passes_are_repeated_less(
    monkeypatch: pytest.MonkeyPatch, most: int, enough: float, longest: float, passes: int
):
    monkeypatch.setattr(costing, "MOST", most)
    monkeypatch.setattr(costing, "ENOUGH", enough)
    monkeypatch.setattr(costing, "LONGEST", longest)
    assert len(costing.repeated(lambda: [1.0])) == passes
