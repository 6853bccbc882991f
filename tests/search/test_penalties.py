"""Penalties against closed forms, and against torch's own divergences."""

import math

import pytest
import torch
from torch.distributions import Dirichlet as TorchDirichlet
from torch.distributions import kl_divergence
from torch.testing import assert_close

from darts_gdas.nets import CostTable, Quantity
from darts_gdas.search import (
    ArchParameters,
    BetaDecay,
    Concrete,
    Cost,
    Dirichlet,
    DirichletKL,
    GumbelHard,
    Linear,
    Penalty,
    Relaxation,
    Sigmoid,
    Softmax,
    ZeroOne,
)
from darts_gdas.space import CellSpace, SearchSpace

ROWS = (
    ("skip_connect", "sep_conv_3x3"),
    ("none", "max_pool_3x3"),
    ("sep_conv_3x3",),
    ("none", "skip_connect"),
    ("skip_connect", "none"),
)
SPACE = SearchSpace(
    {
        "normal": CellSpace(("none", "skip_connect", "sep_conv_3x3"), num_nodes=2),
        "reduce": CellSpace(ROWS, num_nodes=2),
    }
)


def alphas(scale: float = 1.0) -> ArchParameters:
    generator = torch.Generator().manual_seed(0)
    return ArchParameters(SPACE, scale=scale, generator=generator).double()


def present(arch: ArchParameters) -> list[list[torch.Tensor]]:
    """Per kind and edge, the logits of the candidates that the edge has."""
    return [
        [row[: len(names)] for row, names in zip(arch.logits[kind], cell.candidates, strict=True)]
        for kind, cell in SPACE.cells.items()
    ]


def random_table() -> CostTable:
    generator = torch.Generator().manual_seed(1)
    tables = {
        kind: 100 * torch.rand(len(cell.edges), cell.num_candidates, generator=generator).double()
        for kind, cell in SPACE.cells.items()
    }
    return CostTable(SPACE, 50.0, tables)


def value_and_gradient(
    penalty: Penalty, arch: ArchParameters, relaxation: Relaxation, progress: float
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    value = penalty(arch, relaxation.mean(arch), progress=progress)
    return value, list(torch.autograd.grad(value, list(arch.logits.values())))


def test_zero_one_is_minus_the_mean_squared_distance_from_a_half():
    arch = alphas()
    value, gradients = value_and_gradient(ZeroOne(weight=3.0), arch, Sigmoid(), 0.5)
    flat = torch.cat([row for rows in present(arch) for row in rows])
    sigmoids = 1 / (1 + (-flat).exp())
    assert_close(value, -3.0 * ((sigmoids - 0.5) ** 2).mean())
    slopes = -6.0 / len(flat) * (sigmoids - 0.5) * sigmoids * (1 - sigmoids)
    kept = [
        row[: len(names)]
        for gradient, cell in zip(gradients, SPACE.cells.values(), strict=True)
        for row, names in zip(gradient, cell.candidates, strict=True)
    ]
    assert_close(torch.cat(kept), slopes.detach())
    assert gradients[1][2, 1] == 0  # an absent candidate


def test_zero_one_is_smallest_where_every_sigmoid_has_decided():
    arch = alphas(scale=1e4)
    assert_close(value_and_gradient(ZeroOne(), arch, Sigmoid(), 0.0)[0].item(), -2.5)
    with torch.no_grad():
        for logits in arch.parameters():
            logits.zero_()
    assert value_and_gradient(ZeroOne(), arch, Sigmoid(), 0.0)[0] == 0


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_the_gradient_of_beta_decay_is_the_softmax(progress: float):
    """Weight / edges of the kind times the softmax of each edge."""
    arch = alphas()
    value, gradients = value_and_gradient(BetaDecay(), arch, Softmax(), progress)
    means = [sum(row.exp().sum().log() for row in rows) / len(rows) for rows in present(arch)]
    assert_close(value, 50 * progress * (means[0] + means[1]))
    for gradient, cell in zip(gradients, Softmax()(arch).values(), strict=True):
        assert_close(gradient, 50 * progress * cell.ops.detach() / len(cell.ops))


def test_the_divergence_is_torchs():
    arch = alphas()
    value, gradients = value_and_gradient(DirichletKL(weight=0.7), arch, Dirichlet(), 0.5)
    expected = torch.zeros(()).double()
    for rows in present(arch):
        for row in rows:
            law = TorchDirichlet(torch.nn.functional.elu(row) + 1)
            if len(row) > 1:  # a single candidate is certain: KL 0
                expected = expected + kl_divergence(law, TorchDirichlet(torch.ones_like(row)))
    assert_close(value, 0.7 * expected)
    for ours, theirs in zip(
        gradients, torch.autograd.grad(0.7 * expected, list(arch.logits.values())), strict=True
    ):
        assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_divergence_is_zero_at_the_uniform_distribution_alone():
    arch = alphas(scale=0.0)
    value, gradients = value_and_gradient(DirichletKL(), arch, Dirichlet(), 0.5)
    assert_close(value.item(), 0.0, atol=1e-15, rtol=0)
    for gradient in gradients:
        assert_close(gradient, torch.zeros_like(gradient), atol=1e-15, rtol=0)
    for scale in (-3.0, 0.1, 2.0):
        assert value_and_gradient(DirichletKL(), alphas(scale), Dirichlet(), 0.5)[0] > 0


@pytest.mark.parametrize(
    "relaxation", [Softmax(), GumbelHard(), Concrete(), Sigmoid(), Dirichlet()], ids=repr
)
def test_cost_is_the_relative_excess_by_a_loop_over_edges(relaxation: Relaxation):
    arch, table = alphas(), random_table()
    expected = torch.tensor(50.0).double()
    mean = relaxation.mean(arch)
    for kind, cell in SPACE.cells.items():
        costs = table.get_buffer(f"table_{kind}")
        for edge, (node, _) in enumerate(cell.edges):
            final = [
                i for i, name in enumerate(cell.candidates[edge]) if name in cell.derivable(edge)
            ]
            weights = mean[kind].ops[edge, final]
            share = 2 / len(cell.edges_into(node))
            expected = expected + share * (weights / weights.sum() @ costs[edge, final])
    target = (table.smallest + expected.item()) / 2
    value, gradients = value_and_gradient(
        Cost(target, weight=3.0, table=table), arch, relaxation, 0.2
    )
    assert_close(value, 3.0 * (expected / target - 1))
    direct = torch.autograd.grad(3.0 * expected / target, list(arch.logits.values()))
    for ours, theirs in zip(gradients, direct, strict=True):
        assert ours.abs().sum() > 0
        assert_close(ours, theirs)


def test_cost_is_silent_below_the_target():
    cost = Cost(1e6, table=random_table())
    value, gradients = value_and_gradient(cost, alphas(), Softmax(), 0.5)
    assert value == 0 and all((gradient == 0).all() for gradient in gradients)


def test_descent_on_cost_alone_reaches_a_target_that_can_be_met():
    """What the penalty is for, and that the hinge stops there."""
    arch, table = alphas(scale=1e-3), random_table()
    start = table.expected(Softmax().mean(arch)).item()
    target = 0.9 * start
    cost = Cost(target, table=table)
    optimizer = torch.optim.Adam(arch.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        cost(arch, Softmax().mean(arch), progress=0.0).backward()
        optimizer.step()
    reached = table.expected(Softmax().mean(arch)).item()
    assert table.smallest < reached < 1.01 * target
    assert reached > 0.8 * target


def test_a_target_below_the_smallest_network_is_refused_with_both_numbers():
    table = random_table()
    Cost(table.smallest, Quantity.multiply_adds, table=table)
    with pytest.raises(ValueError, match=r"penalties\.cost\.target=60 cannot be met") as error:
        Cost(60.0, Quantity.multiply_adds, table=table)
    assert f"costs {table.smallest:.12g} (multiply_adds)" in str(error.value)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_weights_without_meaning_are_refused(weight: float):
    with pytest.raises(ValueError, match=r"penalties\.zero_one\.weight must be positive"):
        ZeroOne(weight)
    with pytest.raises(ValueError, match=r"penalties\.dirichlet_kl\.weight must be positive"):
        DirichletKL(weight)
    with pytest.raises(ValueError, match=r"penalties\.beta_decay\.weight must not be negative"):
        BetaDecay(Linear(0.0, weight))
