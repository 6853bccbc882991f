"""Costs of parts: they add up to those of the network, counted another way."""

import functools

import pytest
import torch
from torch import Tensor, nn

from darts_gdas.nets import (
    NASBENCH201,
    DerivedNet,
    Layout,
    Stem,
    count_multiply_adds,
    count_parameters,
)
from darts_gdas.nets import costs as costing
from darts_gdas.nets.profile import Profile, profile
from darts_gdas.space import Genotype

CPU = torch.device("cpu")
BENCH = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"
NETWORKS = {
    "darts": (Genotype.load("DARTS_V2"), Layout(4, 3, 5), (8, 9)),
    "twice the same state": (
        Genotype.load("AmoebaNet"),
        Layout(4, 2, 5, 1, reductions=(1,)),
        (8, 8),
    ),
    "imagenet": (
        Genotype.load("GDAS_V1"),
        Layout(4, 2, 5, stem=Stem.imagenet, reductions=(0,)),
        (16, 16),
    ),
    "bench": (
        Genotype.from_arch_string(BENCH),
        Layout(4, 5, 5, skeleton=NASBENCH201),
        (8, 8),
    ),
}


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(costing, "WARM_UP", 0)
    monkeypatch.setattr(costing, "MOST", 1)


@functools.cache
def profiled(name: str) -> tuple[DerivedNet, tuple[int, int], Profile]:
    genotype, layout, size = NETWORKS[name]
    net = DerivedNet(genotype, layout, auxiliary=True)
    return net, size, profile(net, size, CPU, batches=(1, 3))


def saved_bytes(net: nn.Module, images: Tensor) -> int:
    """What autograd keeps, told by the places in memory of real tensors."""
    places: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        places[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(images)
    for held in (*net.parameters(), *net.buffers()):
        places.pop(held.untyped_storage().data_ptr(), None)
    return sum(tensor.untyped_storage().nbytes() for tensor in places.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_add_up_to_the_network(name: str):
    net, size, costs = profiled(name)
    shape = (net.layout.in_channels, *size)
    assert len(costs.cells) == net.layout.layers
    assert costs.total.parameters == count_parameters(net)
    assert costs.total.multiply_adds == count_multiply_adds(net, shape)
    parts = (costs.stem, *costs.cells, costs.head)
    assert costs.total.memory == sum(part.memory for part in parts)
    assert all(len(part.milliseconds) == 2 and min(part.milliseconds) > 0 for part in parts)
    assert costs.total.milliseconds[1] == pytest.approx(sum(p.milliseconds[1] for p in parts))


@pytest.mark.parametrize("name", NETWORKS)
def test_edges_and_inputs_add_up_to_the_cells(name: str):
    net, _, costs = profiled(name)
    for kind, inputs in costs.inputs.items():
        edges = [cost for key, cost in costs.edges.items() if key[0] == kind]
        places = [i for i, other in enumerate(net.layout.kinds) if other == kind]
        for count in ("parameters", "multiply_adds"):
            whole = sum(getattr(costs.cells[place], count) for place in places)
            assert sum(getattr(cost, count) for cost in (inputs, *edges)) == whole


@pytest.mark.parametrize("name", ["darts", "bench"])
def test_memory_is_what_autograd_keeps(name: str, monkeypatch: pytest.MonkeyPatch):
    """On shapes alone, as `profile` counts, and of real tensors."""
    net, size, costs = profiled(name)
    net = DerivedNet(net.genotype, net.layout)
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)  # library convolutions
    kept = saved_bytes(net.train(), torch.randn(2, net.layout.in_channels, *size))
    assert costs.total.memory == pytest.approx(kept / 2, rel=0.01)  # whole bytes per part


def test_the_network_is_left_as_it_was():
    net, size, _ = profiled("darts")
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    call, training = net.run_cell, net.training
    profile(net, size, CPU, batches=(1,))
    assert net.run_cell is call and net.training is training and net.auxiliary is not None
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())
