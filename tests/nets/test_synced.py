"""Norms over the ranks' images, against one norm over all of them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import CellMixture, Mixture, SuperNet
from darts_gdas.nets.statistics import running_statistics
from darts_gdas.nets.synced import SyncedBatchNorm, synchronize_norms
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.space import SearchSpace
from tests.ranks import on_ranks

CUTS = [4]  # of six images: the ranks' parts differ in size


def images(channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, channels, 4, 4, dtype=torch.float64, generator=generator)
    return 2 * x + 5


def norm(affine: bool) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(3, affine=affine).double()
    with torch.no_grad():
        for i, parameter in enumerate(made.parameters()):
            parameter.copy_(torch.tensor([0.5, -1.0, 2.0]) + i)
    return made


def derivatives(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs, gradients of a loss in inputs and parameters, and a gradient of those."""
    x = x.detach().requires_grad_()
    y = module(x)
    loss = torch.sin(y).sum()
    first = torch.autograd.grad(loss, [x, *module.parameters()], create_graph=True)
    (second,) = torch.autograd.grad(first[0].pow(3).sum(), x)
    return [y, *first, second]


@pytest.mark.parametrize("affine", [False, True])
def test_values_and_derivatives_of_two_orders_are_those_of_the_whole_batch(
    tmp_path: Path, affine: bool
):
    def work(ranks: Ranks) -> tuple[list, list]:
        holder = nn.Sequential(norm(affine))
        synchronize_norms(holder)
        assert isinstance(holder[0], SyncedBatchNorm)
        found = derivatives(holder, images().tensor_split(CUTS)[ranks.rank])
        return [t.tolist() for t in found], [b.tolist() for b in holder.buffers()]

    whole = norm(affine)
    expected = derivatives(whole, images())
    ranks = on_ranks(work, tmp_path)
    for i, want in enumerate(expected):
        parts = [torch.tensor(found[i], dtype=torch.float64) for found, _ in ranks]
        is_parameter = want.dim() == 1
        got = sum(parts, torch.zeros(())) if is_parameter else torch.cat(parts)
        assert_close(got, want.detach(), rtol=1e-12, atol=1e-12)
    for _, buffers in ranks:
        for got, want in zip(buffers, whole.buffers(), strict=True):
            assert_close(torch.tensor(got, dtype=want.dtype), want, rtol=1e-14, atol=0)


def test_statistics_stand_still_where_they_are_not_tracked(tmp_path: Path):
    def work(ranks: Ranks) -> list:
        holder = nn.Sequential(norm(False))
        synchronize_norms(holder)
        holder[0].track_running_stats = False
        holder(images().chunk(2)[ranks.rank])
        return [b.tolist() for b in holder.buffers()]

    expected = [b.tolist() for b in norm(False).buffers()]
    assert on_ranks(work, tmp_path) == [expected, expected]


@pytest.mark.parametrize("training", [True, False])
def test_alone_it_is_the_plain_norm(training: bool):
    holder, plain = nn.Sequential(norm(True)), norm(True).train(training)
    synchronize_norms(holder)
    holder.train(training)
    assert torch.equal(holder(images()), plain(images()))
    assert holder[0].state_dict().keys() == plain.state_dict().keys()


def mixture(space: SearchSpace) -> Mixture:
    generator = torch.Generator().manual_seed(1)
    return Mixture(
        {
            kind: CellMixture(
                torch.rand(
                    len(cell.edges), cell.num_candidates, dtype=torch.float64, generator=generator
                )
            )
            for kind, cell in space.cells.items()
        }
    )


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_a_supernet_over_ranks_is_the_supernet_over_the_whole_batch(tmp_path: Path, name: str):
    """Two routes: fused edges in one process, and edges by themselves with synchronised norms."""
    space = (
        SearchSpace.darts(
            num_nodes=2,
            candidates=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3"),
        )
        if name == "darts"
        else SearchSpace.named(name)
    )
    layers = 3 if name == "darts" else 5

    def made() -> SuperNet:
        torch.manual_seed(0)
        return SuperNet.build(space, channels=4, layers=layers, num_classes=3).double()

    def work(ranks: Ranks) -> tuple[list, list]:
        net = made()
        synchronize_norms(net)
        assert running_statistics(net) == []
        logits = net(images().tensor_split(CUTS)[ranks.rank], mixture(space))
        (gradient,) = torch.autograd.grad(logits.square().sum(), net.stem.conv.weight)
        return logits.tolist(), gradient.tolist()

    net = made()
    logits = net(images(), mixture(space))
    (gradient,) = torch.autograd.grad(logits.square().sum(), net.stem.conv.weight)
    found = on_ranks(work, tmp_path)
    got = torch.cat([torch.tensor(part, dtype=torch.float64) for part, _ in found])
    assert_close(got, logits.detach(), rtol=1e-9, atol=1e-9)
    total = sum(torch.tensor(part, dtype=torch.float64) for _, part in found)
    assert_close(total, gradient, rtol=1e-8, atol=1e-8)
