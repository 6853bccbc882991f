"""DARTS-'s auxiliary skip connection: the softmax, more where there is a skip, nothing else."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.nets import NASBENCH201, Layout, SuperNet
from darts_gdas.nets.fused import CellWeights, group_edges
from darts_gdas.search import ArchParameters, AuxiliarySkip, Linear, Softmax, ZeroOne
from darts_gdas.space import SearchSpace

SPACE = SearchSpace.named("s3")  # other candidates on every edge
BENCH = SearchSpace.nasbench201(candidates=("none", "nor_conv_1x1", "skip_connect"))


def alphas(space: SearchSpace = SPACE) -> ArchParameters:
    return ArchParameters(space, scale=1.0, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_only_skip_connections_weigh_more_and_that_fades(progress: float):
    arch = alphas()
    mixture = AuxiliarySkip()(arch, progress=progress)
    plain = Softmax()(arch)
    for kind, cell in SPACE.cells.items():
        more = mixture[kind].ops - plain[kind].ops
        for row, names in zip(more.tolist(), cell.candidates, strict=True):
            expected = [(1 - progress) * (name == "skip_connect") for name in names]
            assert row[: len(names)] == pytest.approx(expected, abs=1e-15)
            assert not any(row[len(names) :])


def test_the_alphas_do_not_see_it():
    """The same derivative, the same cell, the same curves, at any weight."""
    arch = alphas()
    losses = [
        sum((cell.ops * i).sum() for i, cell in enumerate(relaxation(arch).values(), start=1))
        for relaxation in (AuxiliarySkip(), Softmax())
    ]
    found, expected = (torch.autograd.grad(loss, list(arch.parameters())) for loss in losses)
    assert_close(found, expected, rtol=0, atol=0)
    for mine, other in zip(AuxiliarySkip().expected(arch).leaves(),
                           Softmax().expected(arch).leaves(), strict=True):  # fmt: skip
        assert torch.equal(mine, other)
    assert AuxiliarySkip().settings(0.5) == {"beta": 0.5}


def test_in_a_network_every_edge_adds_beta_times_its_input():
    """By another route: the same numbers as a separate identity, added by hand in the cell."""
    torch.manual_seed(0)
    net = SuperNet(BENCH, Layout(2, 5, 3, 1, skeleton=NASBENCH201)).double().eval()
    arch, x, beta = alphas(BENCH), torch.randn(2, 2, 4, 4).double(), 0.3
    cell: Any = net.cells[0]
    ops = Softmax().expected(arch)["normal"].ops
    states = [cell.inputs[0].after_relu(x)]
    for node in range(3):
        total = torch.zeros_like(x)
        for edge, (target, source) in enumerate(BENCH.edges):
            if target == node:
                total = total + beta * states[source]
                for weight, module in zip(ops[edge], cell.edges[edge].candidates.values(),
                                          strict=True):  # fmt: skip
                    total = total + weight * module(states[source])
        states.append(total)
    mixture = AuxiliarySkip(Linear(beta, beta))(arch).detach()
    weights = CellWeights(group_edges(BENCH.cells["normal"], mixture["normal"]))
    assert_close(cell((x,), weights, rectify=False), states[-1])


def test_it_says_where_it_has_no_effect_and_what_its_rows_are():
    none = SearchSpace.nasbench201(candidates=("none", "nor_conv_1x1"))
    assert "no edge of the space offers skip_connect" in (AuxiliarySkip().fits(none) or "")
    assert AuxiliarySkip().fits(SPACE) is None and Softmax().fits(none) is None
    assert AuxiliarySkip().rows_exceed_one and AuxiliarySkip().has_softmax
    assert ZeroOne().fits(AuxiliarySkip()) is not None


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match=r"relaxation.beta must not be negative, got 1.0 -> -0.1"):
        AuxiliarySkip(Linear(1.0, -0.1))
    AuxiliarySkip(Linear(0.0, 0.0))  # DARTS
