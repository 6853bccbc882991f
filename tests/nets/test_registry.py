"""Operations of a user's own: in both networks like any other, and refused where they cannot be."""

import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import (
    OPERATIONS,
    CellMixture,
    DerivedNet,
    Layout,
    Mixture,
    SuperNet,
    count_multiply_adds,
    count_parameters,
    register_operation,
)
from darts_gdas.space import Genotype, SearchSpace
from tests.oracles import derived_logits, supernet_logits


class Gate(nn.Module):
    """x sigmoid(w x) of every channel; strided by picking pixels."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * self.conv(x).sigmoid()


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """The operations as they were before."""
    before = dict(OPERATIONS)
    yield
    OPERATIONS.clear()
    OPERATIONS.update(before)


def registered_space() -> SearchSpace:
    register_operation("gate", lambda channels, stride, affine: Gate(channels, stride))
    return SearchSpace.darts(num_nodes=2, candidates=("none", "gate", "sep_conv_3x3"))


@pytest.mark.parametrize("partial_channels", [1, 2])
def test_it_is_a_candidate_of_the_supernet(partial_channels: int):
    space = registered_space()
    net = SuperNet(space, Layout(4, 3, 3), partial_channels=partial_channels).double()
    cells = {kind: CellMixture(torch.rand(5, 3).double()) for kind in space.cells}
    mixture, x = Mixture(cells).require_grad(), torch.randn(2, 3, 9, 8).double()
    found = []
    for logits in (net(x, mixture), supernet_logits(net, x, mixture)):
        inputs = [*mixture.leaves(), *net.parameters()]
        found.append([logits, *torch.autograd.grad(logits.square().sum(), inputs)])
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_it_is_an_operation_of_genotypes_and_derived_networks():
    genotype = next(
        g for g in map(registered_space().sample, map(random.Random, range(9)))
        if "gate" in g.operations
    )  # fmt: skip
    assert Genotype.from_json(genotype.to_json()) == genotype
    net = DerivedNet(genotype, Layout(4, 3, 3)).double().eval()
    x = torch.randn(2, 3, 8, 8).double()
    assert_close(net(x), derived_logits(net, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stride", [1, 2])
def test_it_counts_towards_the_cost(stride: int):
    registered_space()
    gate = OPERATIONS["gate"].build(4, stride, True)
    assert count_parameters(gate) == 4 * 9 + 4
    assert count_multiply_adds(gate, (4, 8, 8)) == 4 * 9 * (8 // stride) ** 2


def test_registration_draws_nothing_from_the_global_generator():
    state = torch.get_rng_state()
    registered_space()
    assert torch.equal(torch.get_rng_state(), state)


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2)


@pytest.mark.parametrize("name", ["", "Gate", "a b", "a.b", "a~b"])
def test_a_malformed_name_is_an_error(name: str):
    with pytest.raises(ValueError, match="name is lower-case letters, digits and underscores, got"):
        register_operation(name, OPERATIONS["skip_connect"].build)


@pytest.mark.parametrize("name", ["skip_connect", "none", "keys", "training", "forward"])
def test_a_taken_name_is_an_error(name: str):
    with pytest.raises(ValueError, match=rf"the name '{name}' is taken"):
        register_operation(name, OPERATIONS["skip_connect"].build)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda c, s, a: nn.Identity(), r"stride=2, .* into \(2, 4, 4, 4\), got \(2, 4, 8, 8\)"),
        (lambda c, s, a: nn.MaxPool2d(2, s) if s == 2 else nn.Identity(),
         r"stride=2, .* turn \(2, 4, 7, 9\) into \(2, 4, 4, 5\), got \(2, 4, 3, 4\)"),
        (lambda c, s, a: nn.Conv2d(4, 4, 3, s, 1), r"channels=8, .* fails: RuntimeError"),
        (lambda c, s, a: nn.Conv2d(c, 2 * c, 3, s, 1), r"got \(2, 8, 8, 8\)"),
        (lambda c, s, a: nn.MaxPool2d(3, s, 1, return_indices=True), "got tuple"),
        (lambda c, s, a: 3, r"must be a torch\.nn\.Module, got int"),
        (lambda c, s: nn.Identity(), "cannot be made: TypeError"),
        (lambda c, s, a: InPlace(), "must not write to its input"),
    ],
    ids=["stride", "odd size", "fixed channels", "channels", "tuple", "number", "factory", "write"],
)  # fmt: skip
def test_an_operation_that_cannot_stand_on_an_edge_is_an_error(factory, message: str):
    with pytest.raises(ValueError, match=rf"operation 'mine' with .*{message}"):
        register_operation("mine", factory)
    assert "mine" not in OPERATIONS
