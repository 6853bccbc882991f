"""What stands around the cells of a NAS-Bench-201 network."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from darts_gdas.nets import NASBENCH201, CellMixture, Layout, Mixture, SuperNet
from darts_gdas.nets.layout import CellPlan
from darts_gdas.nets.skeletons.nasbench201 import ResidualReduction
from darts_gdas.space import SearchSpace
from tests.oracles import residual_reduction

LAYOUT = Layout(4, 5, 10, in_channels=2, skeleton=NASBENCH201)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5)])
def test_the_residual_block_is_its_definition(height: int, width: int):
    block = NASBENCH201.fixed["residual"](CellPlan("residual", 6, (4,), stride=2)).double()
    assert isinstance(block, ResidualReduction)
    x = torch.randn(3, 4, height, width, dtype=torch.float64)
    y = block((x,), rectify=False)
    assert y.shape == (3, 6, -(-height // 2), -(-width // 2))
    assert_close(y, residual_reduction(block, x))
    assert_close(block((x,), rectify=True), y.relu())


def test_the_state_enters_as_it_is():
    images = torch.randn(2, 2, 8, 8)
    stem = NASBENCH201.build_stem(LAYOUT).eval()
    (state,) = NASBENCH201.enter(stem, images)
    assert state.shape == (2, 4, 8, 8)
    assert (state < 0).any()


def test_the_network_ends_in_norm_and_relu():
    x = torch.randn(5, 8, 4, 4, dtype=torch.float64)
    tail, features = NASBENCH201.build_tail(LAYOUT, 8)
    y = tail.double()(x)
    assert features == 8
    assert_close(y, F.relu(F.batch_norm(x, None, None, training=True)))


@pytest.mark.parametrize("operation", ["nor_conv_3x3", "nor_conv_1x1", "sep_conv_3x3"])
def test_edges_that_lead_nowhere_have_no_gradients(operation: str):
    """So an optimizer leaves their weights alone; both leave a state with one that counts."""
    space = SearchSpace.nasbench201(candidates=("none", "skip_connect", operation))
    drawn = {(0, 0): 2, (1, 0): 1, (1, 1): 0, (2, 0): 2, (2, 1): 0, (2, 2): 1}  # node 0 is not read
    active = tuple(drawn[edge] for edge in space.cells["normal"].edges)
    net = SuperNet.build(space, channels=16, layers=5)
    ops = F.one_hot(torch.tensor(active), 3).float()
    net(
        torch.randn(4, 3, 16, 16), Mixture({"normal": CellMixture(ops, active=active)})
    ).sum().backward()
    for cell in net.cells[::2]:
        edges = [edge.candidates[operation] for edge in cell.edges]  # type: ignore[union-attr]
        has = [{p.grad is not None for p in edge.parameters()} for edge in edges]
        assert has == [{i == 3} for i in range(6)]
