"""GDAS's fixed reduction cell, and supernets that hold a cell which is not searched."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import (
    CellMixture,
    DerivedNet,
    Layout,
    Mixture,
    Quantity,
    SuperNet,
    build_cost_table,
    count_multiply_adds,
    count_parameters,
)
from darts_gdas.nets.derived import DerivedCell
from darts_gdas.nets.layout import CellPlan
from darts_gdas.space import Genotype, SearchSpace
from tests.oracles import supernet_logits

FRC = Genotype.load("GDAS_FRC").cells["reduce"]
SPACE = SearchSpace.darts(num_nodes=2).fix({"reduce": FRC})
LAYOUT = Layout(channels=4, layers=4, num_classes=3, in_channels=2, reductions=(1, 2))

# float64 sums in two orders, then through batch norms.
EXACT = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def images(size: tuple[int, int] = (8, 8)) -> Tensor:
    return torch.randn(3, 2, *size, dtype=torch.float64)


def random_mixture(space: SearchSpace = SPACE) -> Mixture:
    cells = {
        kind: CellMixture(torch.rand(len(cell.edges), cell.num_candidates).double())
        for kind, cell in space.cells.items()
    }
    return Mixture(cells).require_grad()


def norm(x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True)


def transition(states: tuple[Tensor, Tensor], weights: list[Tensor], groups: int) -> Tensor:
    """The authors' cell: X0 and X1 convolve the inputs, X2 pools X0 + X1, X3 pools the second."""
    first, second, *convs = weights

    def convolve(x: Tensor, rows: Tensor, columns: Tensor, mix: Tensor) -> Tensor:
        y = F.conv2d(F.relu(x), rows, stride=(1, 2), padding=(0, 1), groups=groups)
        y = F.conv2d(y, columns, stride=(2, 1), padding=(1, 0), groups=groups)
        return norm(F.conv2d(F.relu(norm(y)), mix))

    s0 = norm(F.conv2d(F.relu(states[0]), first))
    s1 = norm(F.conv2d(F.relu(states[1]), second))
    x0, x1 = convolve(s0, *convs[:3]), convolve(s1, *convs[3:])
    x2 = norm(F.max_pool2d(x0 + x1, 3, stride=1, padding=1))
    x3 = norm(F.max_pool2d(s1, 3, stride=2, padding=1))
    return torch.cat([x0, x1, x2, x3], dim=1)


@pytest.mark.parametrize("size", [(8, 8), (7, 10)], ids=str)
@pytest.mark.parametrize("channels", [16, 6])
def test_the_fixed_reduction_cell_is_the_authors(channels: int, size: tuple[int, int]):
    """class Transition of lib/nas/construct_utils.py; 8 groups where they divide the channels."""
    cell = DerivedCell(FRC, CellPlan("reduce", channels, (5, 3), stride=2)).double().train()
    states = tuple(torch.randn(2, n, *size, dtype=torch.float64) for n in (5, 3))
    weights = [m.weight for m in cell.modules() if isinstance(m, nn.Conv2d)]
    rectified = tuple(F.relu(state) for state in states)  # as the network hands them on
    y = cell(rectified)
    assert y.shape == (2, 4 * channels, -(-size[0] // 2), -(-size[1] // 2))
    assert_close(y, transition(states, weights, 8 if channels == 16 else 2), **EXACT)  # type: ignore[arg-type]


def test_its_parameters_counted_by_hand():
    """Two inputs, two branches of two grouped kernels and a mix; eight norms of two each."""
    c, before, last = 16, 12, 20
    inputs = before * c + last * c
    branch = 2 * 3 * c * (c // 8) + c * c
    norms = (2 + 2 * 2 + 2) * 2 * c
    cell = DerivedCell(FRC, CellPlan("reduce", c, (before, last), stride=2))
    assert sum(p.numel() for p in cell.parameters()) == inputs + 2 * branch + norms


def test_the_published_network_has_2_5_million_parameters():
    """Dong and Yang, table 1, "GDAS (FRC)"."""
    with torch.device("meta"):
        net = DerivedNet.build(Genotype.load("GDAS_FRC"), channels=36, layers=20)
    assert round(count_parameters(net) / 1e6, 1) == 2.5


@pytest.mark.parametrize("checkpoint_cells", [False, True])
def test_a_supernet_with_a_fixed_cell_is_its_definition(checkpoint_cells: bool):
    net = SuperNet(SPACE, LAYOUT, checkpoint_cells=checkpoint_cells).double().train()
    x, mixture = images(), random_mixture()
    leaves = [*net.parameters(), *mixture.leaves()]
    logits = net(x, mixture)
    got = torch.autograd.grad(logits.square().sum(), leaves)
    expected = supernet_logits(net, x, mixture)
    want = torch.autograd.grad(expected.square().sum(), leaves)
    assert logits.shape == (3, 3)
    assert_close([logits, *got], [expected, *want], **EXACT)
    assert all(gradient.abs().max() > 0 for gradient in got)


def test_its_mixture_has_the_searched_kind_alone():
    net = SuperNet(SPACE, LAYOUT).double()
    assert [type(cell) is DerivedCell for cell in net.cells] == [False, True, True, False]
    assert list(random_mixture()) == ["normal"]
    net(images((5, 7)), random_mixture())


def test_with_partial_channels_the_fixed_cell_runs_all_of_its():
    net = SuperNet(SPACE, LAYOUT, partial_channels=2).double()
    x, mixture = images(), random_mixture()
    assert_close(net(x, mixture), supernet_logits(net, x, mixture), **EXACT)
    assert net.cells[1].nodes[0][0][1].in_channels == 8  # 2 C, not half of it


def test_a_fixed_cell_of_another_network_is_refused():
    one_input = Genotype.from_arch_string(
        "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
    ).cells["normal"]
    space = SearchSpace.darts(num_nodes=2).fix({"reduce": one_input})
    with pytest.raises(ValueError, match="feeds two states to a cell, the space takes"):
        SuperNet(space, LAYOUT)


@pytest.mark.parametrize("quantity", [Quantity.parameters, Quantity.multiply_adds])
def test_the_cost_of_a_fixed_cell_counts(quantity: Quantity):
    table = build_cost_table(SPACE, LAYOUT, (8, 8), quantity, torch.device("cpu"))
    genotype = SPACE.sample(random.Random(0))
    with torch.device("meta"):
        net = DerivedNet(genotype, LAYOUT)
    counted = (
        count_parameters(net)
        if quantity is Quantity.parameters
        else count_multiply_adds(net, (2, 8, 8))
    )
    assert table.of(genotype) == counted
