"""Dropout behind skip connections: its law, its place in a cell, one set of masks per step."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.nets import CellMixture, Layout, Mixture, SuperNet
from darts_gdas.nets.dropout import SkipDropout
from darts_gdas.nets.fused import CellWeights, group_edges
from darts_gdas.nets.layout import CellPlan
from darts_gdas.nets.partial import first_channels
from darts_gdas.nets.supernet import SearchCell
from darts_gdas.space import CellSpace, SearchSpace

CPU = torch.device("cpu")
DROPOUT = SkipDropout(rate=0.3, seed=5)
MIXED = ("max_pool_3x3", "skip_connect", "sep_conv_3x3")


def float64(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=source)


def cell_of(space: CellSpace, *, kind: str = "normal", partial_channels: int = 1) -> SearchCell:
    plan = CellPlan(kind, 4, (4, 4), stride=2 if kind == "reduce" else 1)
    return SearchCell(space, plan, partial_channels=partial_channels).double()


def output(cell: SearchCell, inputs: list[Tensor], ops: Tensor, dropout: SkipDropout | None):
    groups = group_edges(cell.space, CellMixture(ops))
    return cell(inputs, CellWeights(groups, dropout=dropout), rectify=False)


def test_an_element_is_zero_or_scaled_up_and_keeps_its_expectation():
    x = torch.ones(50, 8, 20, 20)
    y = SkipDropout(rate=0.3, seed=1).start(CPU)(x)
    assert_close(y.unique(), torch.tensor([0.0, 1 / 0.7]))
    sigma = (0.3 / 0.7 / x.numel()) ** 0.5  # of a mean of Bernoulli(0.7) / 0.7
    assert abs(y.mean().item() - 1) < 4 * sigma


def test_masks_are_a_function_of_seed_and_cell_and_differ_from_edge_to_edge():
    x = torch.ones(4, 4, 6, 6)
    drop, again, other = (d.start(CPU) for d in (DROPOUT, DROPOUT, DROPOUT.of_cell(1)))
    first, second = drop(x), drop(x)
    assert torch.equal(again(x), first) and torch.equal(again(x), second)
    assert not torch.equal(first, second) and not torch.equal(first, other(x))


@pytest.mark.parametrize("partial_channels", [1, 2])
@pytest.mark.parametrize("names", [MIXED, ("skip_connect",)], ids=["mixed", "alone"])
def test_a_cell_differs_by_the_weighted_dropped_elements_alone(
    names: tuple[str, ...], partial_channels: int
):
    """One node adds up its edges, so what dropout changes is sum_e w_e (mask_e / keep - 1) x_e."""
    cell = cell_of(
        CellSpace(names, num_nodes=1),  # type: ignore[arg-type]
        partial_channels=partial_channels,
    )
    inputs = [float64(3, 4, 6, 6, seed=1).relu(), float64(3, 4, 6, 6, seed=2).relu()]
    ops = float64(2, len(names), seed=3).softmax(-1)
    changed = output(cell, inputs, ops, DROPOUT) - output(cell, inputs, ops, None)
    rng = torch.Generator().manual_seed(DROPOUT.seed)
    expected = torch.zeros_like(changed)
    for edge, (module, x) in enumerate(zip(cell.inputs, inputs, strict=True)):
        state = module.after_relu(x)  # type: ignore[operator]
        state = state if partial_channels == 1 else first_channels(state, cell.channels)
        mask = torch.empty_like(state).bernoulli_(0.7, generator=rng)
        factor = ops[edge, names.index("skip_connect")] * (mask / 0.7 - 1)
        expected[:, ::partial_channels] += factor * state  # shuffled: channel i K + 0
    assert_close(changed, expected, rtol=1e-10, atol=1e-10)


def test_skip_connections_that_halve_their_input_are_left_alone():
    cell = cell_of(CellSpace(("skip_connect",), num_nodes=1), kind="reduce")  # type: ignore[arg-type]
    inputs, ops = [float64(3, 4, 6, 6).relu()] * 2, torch.ones(2, 1, dtype=torch.float64)
    assert torch.equal(output(cell, inputs, ops, DROPOUT), output(cell, inputs, ops, None))


def trained(net: SuperNet, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits and gradients of one pass."""
    mixture = Mixture(
        {
            kind: CellMixture(float64(len(c.edges), c.num_candidates, seed=7).softmax(-1))
            for kind, c in net.space.cells.items()
        }
    )
    logits = net(images, mixture)
    gradients = torch.autograd.grad(logits.square().sum(), list(net.parameters()))
    return logits.detach(), list(gradients)


def test_a_supernet_drops_in_training_alone_and_alike_in_all_passes_of_a_step():
    net = SuperNet(SearchSpace.darts(num_nodes=2, candidates=MIXED), Layout(4, 3, 3, 1)).double()
    images = float64(4, 1, 8, 8)
    (whole, _), evaluated = trained(net, images), trained(net.eval(), images)[0]
    net.skip_dropout = DROPOUT
    assert torch.equal(trained(net.eval(), images)[0], evaluated)
    (first, gradients), (second, _) = trained(net.train(), images), trained(net, images)
    assert torch.equal(first, second) and not torch.allclose(first, whole)
    net.checkpoint_cells = True
    again, others = trained(net, images)
    assert torch.equal(again, first)
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_is_a_probability_below_one(rate: float):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\), got"):
        SkipDropout(rate, seed=0)
