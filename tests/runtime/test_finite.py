"""Numbers that are none: who is told, what is left out, and that nothing moves."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.finite import FiniteGuard, NotFinite, OnNonFinite
from darts_gdas.runtime.optim import SGD, gradient_norm
from tests.ranks import on_ranks


def asked(
    guard: FiniteGuard, gradient: list[float], loss: float = 1.0, step: str = "weight step"
) -> bool:
    made = {"first": torch.ones(2), "none": None, "second": torch.tensor(gradient)}
    norm = torch.tensor(gradient).norm()
    return guard.passes(step, norm, loss=lambda: torch.tensor(loss), gradients=lambda: made)


NAN, INF = float("nan"), float("inf")


def test_finite_gradients_pass_without_a_look_at_anything_else():
    def never() -> Tensor:
        raise AssertionError

    guard = FiniteGuard()
    assert guard.passes("step", torch.tensor(3.0), loss=never, gradients=never)  # type: ignore


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_the_run_stops_and_the_culprit_is_named(bad: float):
    with pytest.raises(NotFinite, match=r"^weight step: the gradient of second is not finite$"):
        asked(FiniteGuard(), [0.0, bad])
    with pytest.raises(NotFinite, match=rf"^weight step: the loss is {bad}$"):
        asked(FiniteGuard(), [bad], loss=bad)


def test_a_norm_may_overflow_where_no_gradient_does():
    with pytest.raises(NotFinite, match="the gradient's norm overflows"):
        asked(FiniteGuard(), [3e38, 3e38])


def test_steps_are_left_out_a_few_times_in_a_row(caplog: pytest.LogCaptureFixture):
    guard = FiniteGuard(OnNonFinite.skip, limit=2)
    with caplog.at_level(logging.WARNING):
        assert not asked(guard, [NAN]) and not asked(guard, [NAN])
    assert [r.getMessage()[-12:] for r in caplog.records] == ["(1 in a row)", "(2 in a row)"]
    assert asked(guard, [1.0])  # begins to count anew
    assert not asked(guard, [NAN]) and not asked(guard, [NAN])
    assert not asked(guard, [NAN], step="arch step")  # counts by itself
    with pytest.raises(NotFinite, match="for the 3th time in a row"):
        asked(guard, [NAN])


def test_only_the_policy_that_says_so_tries_again():
    for policy in (OnNonFinite.stop, OnNonFinite.roll_back):
        with pytest.raises(NotFinite) as error:
            asked(FiniteGuard(policy), [NAN])
        assert error.value.retry is (policy is OnNonFinite.roll_back)


def test_a_limit_of_none_is_refused():
    with pytest.raises(ValueError, match="max_skips must be at least 1, got 0"):
        FiniteGuard(OnNonFinite.skip, limit=0)


def test_all_ranks_are_told_on_which_one_it_began(tmp_path: Path):
    def work(ranks: Ranks) -> str:
        with pytest.raises(NotFinite) as error:
            asked(FiniteGuard(ranks=ranks), [NAN], loss=NAN if ranks.rank == 1 else 0.5)
        return str(error.value)

    assert on_ranks(work, tmp_path) == ["weight step: the loss is nan on rank 1"] * 2


def stepped(passes: Callable[[Tensor], bool] | None, clip: float) -> Tensor:
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    sgd = SGD(lr=0.1, momentum=0.9, weight_decay=0.0, clip=clip)
    optimizer = sgd.build([weight])
    (weight**2).sum().backward()
    sgd.step(optimizer, passes)
    assert weight.grad is None
    return weight.detach()


@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_the_optimizer_shows_the_norm_before_clipping_and_stands_still_on_no(clip: float):
    seen: list[float] = []

    def answer(yes: bool) -> Callable[[Tensor], bool]:
        return lambda norm: bool(seen.append(norm.item())) or yes

    assert torch.equal(stepped(answer(False), clip), torch.tensor([3.0, 4.0]))
    assert torch.equal(stepped(answer(True), clip), stepped(None, clip))
    assert seen == [10.0, 10.0]  # of the gradient [6, 8]


def test_the_norm_of_nothing_is_zero():
    assert gradient_norm([torch.ones(2, requires_grad=True)]) == 0
