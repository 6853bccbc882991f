"""Running statistics move as batch norm moves them, once, and stand still when asked to."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets.statistics import (
    Replay,
    StatisticsUpdate,
    batch_norms,
    untouched_statistics,
    uses_batch_statistics,
)


def images(seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=source) * 2 + 5


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of each channel, [1, channels] each."""
    return x.mean((0, 2, 3))[None], x.var((0, 2, 3))[None]


@pytest.mark.parametrize("momentum", [0.1, 0.3])
def test_an_update_moves_norms_as_their_own_forward_pass_does(momentum: float):
    norms = [nn.BatchNorm2d(3, momentum=momentum).double() for _ in range(4)]
    for seed in (0, 1):
        update = StatisticsUpdate()
        for norm, x in zip(norms[:2], (images(seed), images(seed + 5)), strict=True):
            update.add([norm], *moments(x))
        update.apply()
        for norm, x in zip(norms[2:], (images(seed), images(seed + 5)), strict=True):
            norm(x)
    for ours, theirs in zip(norms[:2], norms[2:], strict=True):
        for name, buffer in theirs.named_buffers():
            assert_close(dict(ours.named_buffers())[name], buffer, rtol=1e-12, atol=0.0)


def test_each_norm_moves_by_its_own_momentum():
    norms, update = [nn.BatchNorm2d(3, momentum=m).double() for m in (0.1, 0.5)], StatisticsUpdate()
    for norm in norms:
        update.add([norm], *moments(images()))
    update.apply()
    mean = images().mean((0, 2, 3))
    for norm in norms:
        assert_close(norm.running_mean, norm.momentum * mean, rtol=1e-12, atol=0.0)


def test_of_norms_noted_together_those_that_do_not_track_are_left_alone():
    tracking, frozen = nn.BatchNorm2d(3).double(), nn.BatchNorm2d(3).double().eval()
    both = [value.expand(2, -1) for value in moments(images())]
    for norms in ([tracking, frozen], [frozen, tracking]):
        update = StatisticsUpdate()
        update.add(norms, *both)
        update.apply()
    assert tracking.num_batches_tracked == 2 and frozen.num_batches_tracked == 0


def test_nothing_moves_before_it_is_applied():
    norm, update = nn.BatchNorm2d(3).double(), StatisticsUpdate()
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    update.apply()  # nothing noted yet
    update.add([norm], *moments(images()))
    for name, buffer in norm.named_buffers():
        assert torch.equal(buffer, before[name])


@pytest.mark.parametrize("frozen", ["evaluation", "untracked"])
def test_norms_that_do_not_track_are_left_alone(frozen: str):
    norm, update = nn.BatchNorm2d(3).double(), StatisticsUpdate()
    if frozen == "evaluation":
        norm.eval()
    else:
        norm.track_running_stats = False
    update.add([norm], *moments(images()))
    update.apply()
    assert norm.num_batches_tracked == 0 and not norm.running_mean.any()


def test_norms_without_statistics_have_nothing_to_move():
    norm, update = nn.BatchNorm2d(3, track_running_stats=False), StatisticsUpdate()
    update.add([norm], *moments(images()))
    update.apply()
    assert norm.running_mean is None


def test_several_norms_are_noted_at_once():
    norms, update = [nn.BatchNorm2d(3).double() for _ in range(2)], StatisticsUpdate()
    both = [torch.cat(pair) for pair in zip(moments(images()), moments(images(1)), strict=True)]
    update.add(norms, *both)
    update.apply()
    for seed, norm in enumerate(norms):
        alone = nn.BatchNorm2d(3).double()
        alone(images(seed))
        for name, buffer in alone.named_buffers():
            assert_close(dict(norm.named_buffers())[name], buffer, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_told_not_to_track_keeps_to_what_it_has(training: bool):
    norm = nn.BatchNorm2d(3, affine=False).double().train(training)
    with untouched_statistics([norm]):
        normalised = norm(images()).mean((0, 2, 3)).abs().max() < 1e-9
        assert uses_batch_statistics(norm) == bool(normalised) == training


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_batch_statistics_are_used_where_batch_norm_uses_them(training: bool, track: bool):
    norm = nn.BatchNorm2d(3, affine=False, track_running_stats=track).double().train(training)
    normalised = norm(images()).mean((0, 2, 3)).abs().max() < 1e-9
    assert uses_batch_statistics(norm) == bool(normalised)


def test_a_replay_runs_as_before_and_moves_nothing():
    """Also where the module has changed its mind on tracking since."""
    norm = nn.BatchNorm2d(3).double()
    with untouched_statistics([norm]):
        untracked = Replay(norm)
    tracked = Replay(norm)
    norm(images())
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    for replay, flag in ((tracked, True), (untracked, False), (tracked, True)):
        with replay:
            assert norm.track_running_stats == flag
            norm(images(1))
        assert norm.track_running_stats
        for name, buffer in norm.named_buffers():
            assert torch.equal(buffer, before[name])


def test_statistics_stay_untouched_within_and_move_again_after():
    norm = nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 2, 2) + 5
    before = norm.running_mean.clone()
    with untouched_statistics(batch_norms(norm)):
        inside = norm(x)
    assert torch.equal(norm.running_mean, before) and norm.num_batches_tracked == 0
    assert torch.equal(norm(x), inside)  # normalised by the batch in both
    assert norm.num_batches_tracked == 1


def test_statistics_move_again_after_an_error():
    norm = nn.BatchNorm2d(3)
    with pytest.raises(ZeroDivisionError), untouched_statistics(batch_norms(norm)):
        _ = 1 / 0
    assert norm.track_running_stats


def test_norms_without_statistics_stay_without():
    net = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False))
    with untouched_statistics(batch_norms(net)):
        pass
    assert [norm.track_running_stats for norm in net] == [True, False]
