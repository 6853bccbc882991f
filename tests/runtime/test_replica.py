"""Gradients over the ranks' parts of a batch, against one process with the whole batch."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.replica import Replica, with_mean_gradients
from tests.ranks import on_ranks


def data(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 3, dtype=torch.float64, generator=generator)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


class TwoPaths(nn.Module):
    """Runs one of its two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([net(), net()])

    def forward(self, x: Tensor, branch: int) -> Tensor:
        return self.branches[branch](x)


def test_dense_passes_have_the_gradient_of_the_whole_batch(tmp_path: Path):
    def work(ranks: Ranks) -> list[list[float]]:
        replica = Replica(net(), ranks, ())
        replica(data().chunk(ranks.size)[ranks.rank]).square().mean().backward()
        replica.finish()
        return [p.grad.flatten().tolist() for p in replica.module.parameters()]

    whole = net()
    whole(data()).square().mean().backward()
    expected = [p.grad.flatten() for p in whole.parameters() if p.grad is not None]
    for rank in on_ranks(work, tmp_path):
        assert_close(
            [torch.tensor(g, dtype=torch.float64) for g in rank], expected, rtol=0, atol=1e-14
        )


def test_sparse_and_dense_passes_can_alternate_and_unused_weights_stay_without_gradient(
    tmp_path: Path,
):
    def work(ranks: Ranks) -> list:
        replica, found = Replica(TwoPaths(), ranks, ()), []
        x = data().chunk(ranks.size)[ranks.rank]
        for branch in (0, 1, 1):
            replica(x, branch, sparse=True).square().mean().backward()
            replica.finish()
            found.append([p.grad is None for p in replica.module.parameters()])
            found.append(
                [p.grad.sum().item() for p in replica.module.parameters() if p.grad is not None]
            )
            replica.module.zero_grad()
        return found

    one, other = on_ranks(work, tmp_path)
    assert one == other
    assert one[0] == [False] * 4 + [True] * 4 and one[2] == one[4] == [True] * 4 + [False] * 4
    whole = TwoPaths()
    whole(data(), 1).square().mean().backward()
    expected = [p.grad.sum().item() for p in whole.branches[1].parameters() if p.grad is not None]
    assert_close(one[3], expected, rtol=0, atol=1e-14)


def test_several_passes_are_added_up_and_sent_once(tmp_path: Path):
    def work(ranks: Ranks) -> list[list[float]]:
        replica = Replica(net(), ranks, ())
        mine = data().chunk(ranks.size)[ranks.rank]
        for part in mine.split([1, 2]):
            (replica(part, sparse=True).square().sum() / len(mine)).backward()
        replica.finish()
        return [p.grad.flatten().tolist() for p in replica.module.parameters()]

    whole = net()
    whole(data()).square().mean().backward()
    expected = [p.grad.flatten() for p in whole.parameters() if p.grad is not None]
    for rank in on_ranks(work, tmp_path):
        assert_close(
            [torch.tensor(g, dtype=torch.float64) for g in rank], expected, rtol=0, atol=1e-14
        )


def test_statistics_are_averaged_after_a_pass(tmp_path: Path):
    def work(ranks: Ranks) -> list[float]:
        norm = nn.BatchNorm1d(3).double()
        assert norm.running_mean is not None
        replica = Replica(norm, ranks, [norm.running_mean])
        replica(data().chunk(ranks.size)[ranks.rank]).sum().backward()
        replica.finish()
        return norm.running_mean.tolist()

    one, other = on_ranks(work, tmp_path)
    assert one == other
    assert_close(torch.tensor(one, dtype=torch.float64), 0.1 * data().mean(0), rtol=0, atol=1e-15)


def test_derivatives_through_mean_gradients_are_those_of_the_whole_batch(tmp_path: Path):
    """A step of descent on one loss, differentiated through: first and second order."""

    def through_a_step(x: Tensor, y: Tensor, ranks: Ranks) -> list[Tensor]:
        w = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
        a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        shared_w, shared_a = with_mean_gradients([w, a], ranks)
        inner = torch.tanh(x @ (shared_a * shared_w)).square().mean()
        (gradient,) = torch.autograd.grad(inner, w, create_graph=True)
        (moved,) = with_mean_gradients([w - 0.5 * gradient], ranks)
        (again,) = with_mean_gradients([a], ranks)
        outer = (torch.sin(y @ moved) * again).sum() / len(y)
        return [gradient, *torch.autograd.grad(outer, [a, w])]

    def work(ranks: Ranks) -> list[list[float]]:
        parts = [data(seed).chunk(ranks.size)[ranks.rank] for seed in (0, 1)]
        return [g.flatten().tolist() for g in through_a_step(*parts, ranks)]

    expected = [g.detach().flatten() for g in through_a_step(data(0), data(1), ALONE)]
    for rank in on_ranks(work, tmp_path):
        # The weights also stand in the step unshared, as nothing asks for that derivative.
        for got, want in zip(rank[:2], expected[:2], strict=True):
            assert_close(torch.tensor(got, dtype=torch.float64), want, rtol=0, atol=1e-14)


def test_tensors_without_gradient_and_single_processes_are_left_alone():
    x = torch.ones(2)
    assert with_mean_gradients([x], ALONE) == [x]
    assert with_mean_gradients([x], Ranks(0, 2))[0] is x


@pytest.mark.parametrize("sparse", [False, True])
def test_a_single_process_runs_the_module_itself(sparse: bool):
    replica = Replica(net(), ALONE, ())
    assert torch.equal(replica(data(), sparse=sparse), replica.module(data()))
    replica.finish()
