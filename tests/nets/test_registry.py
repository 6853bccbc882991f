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
from darts_gdas.nets.candidates import ReluFirst
from darts_gdas.report.cell_svg import draw_cell
from darts_gdas.space import CellGenotype, Edge, Family, Genotype, SearchSpace
from tests.oracles import derived_logits, supernet_logits
from tests.registries import parts_put_back


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


@pytest.mark.parametrize("form", ["Gate(channels", "x = 1", "1, 2)", 3])
def test_a_form_that_is_no_expression_is_an_error(form: object):
    with pytest.raises(ValueError, match=r"'mine' with stride=1: python gives no expression: "):
        register_operation("mine", lambda c, s, a: Gate(c, s), python=lambda stride: form)  # type: ignore
    assert "mine" not in OPERATIONS


def pool(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.LPPool2d(1, stride, ceil_mode=True)


@pytest.mark.parametrize("is_pooling", [False, True])
def test_a_supernet_normalises_it_where_it_is_called_a_pooling(is_pooling: bool):
    register_operation("mine", pool, is_pooling=is_pooling)
    y = OPERATIONS["mine"].candidate(3, 2).double()(1.0 + 5.0 * torch.rand(4, 3, 8, 8).double())
    normalised = bool((y.mean(dim=(0, 2, 3)).abs() < 1e-12).all())
    assert normalised is is_pooling
    assert isinstance(OPERATIONS["mine"].build(3, 2, True), nn.LPPool2d)


def test_drawings_show_its_family():
    cell = CellGenotype(((Edge("mine", 0), Edge("other", 1)),), (2,))
    register_operation("mine", pool, family=Family.pool)
    drawing = draw_cell(cell, "normal")
    assert drawing.count('class="edge pool"') == drawing.count('class="edge other"') == 1


class Softened(ReluFirst):
    """What follows a ReLU, with the number of those that it has taken itself."""

    alone = 0

    def __init__(self, channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        type(self).alone += 1
        return self.after_relu(x.relu())

    def after_relu(self, x: Tensor) -> Tensor:
        return self.conv(x)


def test_what_begins_with_a_relu_shares_that_of_its_state():
    """In both networks, with the values of the definition, which takes one for each operation."""
    register_operation("mine", Softened)
    space = SearchSpace.darts(num_nodes=2, candidates=("none", "mine"))
    net = SuperNet(space, Layout(4, 3, 3)).double().eval()
    derived = DerivedNet(space.sample(random.Random(0)), Layout(4, 3, 3)).double().eval()
    x = torch.randn(2, 3, 8, 8).double()
    mixture = Mixture({kind: CellMixture(torch.rand(5, 2).double()) for kind in space.cells})
    Softened.alone = 0
    found = net(x, mixture), derived(x)
    assert Softened.alone == 0
    expected = supernet_logits(net, x, mixture), derived_logits(derived, x)
    assert Softened.alone > 0
    for actual, wanted in zip(found, expected, strict=True):
        assert_close(actual, wanted, rtol=1e-10, atol=1e-10)


def test_an_operation_may_change_the_number_of_channels():
    def factory(channels, stride, affine, before=None):
        return nn.Conv2d(before or channels, channels, 3, stride, 1)

    with parts_put_back():
        register_operation("mine", factory, changes_channels=True)
        assert OPERATIONS["mine"].between(3, 5, 2, affine=True).weight.shape[:2] == (5, 3)
        with pytest.raises(ValueError, match=r"affine=True, before=8 fails: RuntimeError"):
            register_operation(
                "wrong",
                lambda c, s, a, before=None: nn.Conv2d(c, c, 3, s, 1),
                changes_channels=True,
            )
        with pytest.raises(ValueError, match=r"before=8 cannot be made: TypeError"):
            register_operation(
                "short", lambda c, s, a: nn.Conv2d(c, c, 3, s, 1), changes_channels=True
            )
