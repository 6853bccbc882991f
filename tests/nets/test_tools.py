"""A trained network is an ordinary one to tools that go by the class of a layer."""

import copy
import warnings

import jaxtyping
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.flop_counter import FlopCounterMode

from darts_gdas.nets import DerivedNet
from darts_gdas.nets.depthwise import Depthwise, make_plain
from darts_gdas.space import Genotype

IMAGES = torch.randn(4, 3, 17, 17, generator=torch.Generator().manual_seed(0))  # odd: it pads


def network() -> DerivedNet:
    torch.manual_seed(0)
    net = DerivedNet.build(Genotype.load("DARTS_V2"), channels=4, layers=4, auxiliary=False)
    net(torch.randn(16, 3, 17, 17))  # running statistics of its own
    return net.eval()


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


@pytest.fixture
def plain() -> DerivedNet:
    net = network()
    make_plain(net)
    return net


def test_that_all_convolutions_are_plain_and_compute_the_same(plain: DerivedNet) -> None:
    net = network()
    assert any(type(module) is Depthwise for module in convolutions(net))
    assert {type(module) for module in convolutions(plain)} == {nn.Conv2d}
    assert net.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(plain(IMAGES), net(IMAGES))
    for one in (net, plain):
        one.double().train()(IMAGES.double()).pow(2).sum().backward()
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_that_counters_see_every_layer(plain: DerivedNet) -> None:
    torchinfo = pytest.importorskip("torchinfo")
    with FlopCounterMode(display=False) as counter:
        plain(IMAGES[:1])
    found = torchinfo.summary(plain, input_data=IMAGES[:1], verbose=0).summary_list
    counted = sum(layer.macs for layer in found if type(layer.module) is nn.Conv2d)
    linear = sum(module.weight.numel() for module in plain.modules() if type(module) is nn.Linear)
    assert 2 * (counted + linear) == counter.get_total_flops()


def test_pruning(plain: DerivedNet) -> None:
    weights = [(module, "weight") for module in convolutions(plain)]
    before = torch.cat([module.weight.detach().abs().flatten() for module, _ in weights])
    prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=0.25)
    threshold = before.sort().values[round(0.25 * len(before))]
    after = torch.cat([module.weight.detach().flatten() for module, _ in weights])
    assert torch.equal(after == 0, before < threshold)
    masked = plain(IMAGES)
    for module, name in weights:
        prune.remove(module, name)
    assert torch.equal(plain(IMAGES), masked)


def test_parametrisations(plain: DerivedNet) -> None:
    expected = plain(IMAGES)
    for module in convolutions(plain):
        parametrizations.weight_norm(module)  # of its own length at first: the same weights
    torch.testing.assert_close(plain(IMAGES), expected)
    with torch.no_grad():
        for module in convolutions(plain):
            module.parametrizations.weight.original0.mul_(2)  # their lengths
    net = network()
    with torch.no_grad():
        for module in convolutions(net):
            module.weight.mul_(2)
    torch.testing.assert_close(plain(IMAGES), net(IMAGES))


def test_replacing_layers(plain: DerivedNet) -> None:
    class Doubled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * self.inner(x)

    net = network()
    for name, module in list(plain.named_modules()):
        if type(module) is nn.Conv2d:
            parent, _, last = name.rpartition(".")
            setattr(plain.get_submodule(parent), last, Doubled(module))
    with torch.no_grad():
        for module in convolutions(net):
            module.weight.mul_(2)
    torch.testing.assert_close(plain(IMAGES), net(IMAGES))


def test_quantisation(plain: DerivedNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a trace has no shapes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao announces its successor
        pytest.importorskip("torch.ao.quantization.quantize_fx")
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

        mapping = get_default_qconfig_mapping("fbgemm")
        observed = prepare_fx(copy.deepcopy(plain), mapping, (IMAGES,))
        observed(IMAGES)
        quantised = convert_fx(observed)
        expected, found = plain(IMAGES), quantised(IMAGES)
    assert not convolutions(quantised)  # each is one of 8 bits now
    names = [type(module).__module__ for module in quantised.modules()]
    assert sum("quantized" in name for name in names) > len(convolutions(plain))
    assert (found - expected).norm() < 0.1 * expected.norm()
