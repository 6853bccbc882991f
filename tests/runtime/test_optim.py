import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from darts_gdas.runtime.optim import SGD, Adam, Cosine, Decay, set_learning_rate


def test_cosine_is_torchs_scheduler():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.025)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=0.001)
    schedule = Cosine(end=0.001)
    for epoch in range(50):
        expected = optimizer.param_groups[0]["lr"]
        assert schedule(0.025, epoch=epoch, num_epochs=50) == pytest.approx(expected, rel=1e-9)
        optimizer.step()
        scheduler.step()
    assert schedule(0.025, epoch=50, num_epochs=50) == pytest.approx(0.001)


def test_decay_multiplies_every_few_epochs():
    rates = [Decay(0.5, every=2)(0.8, epoch=e, num_epochs=6) for e in range(6)]
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])


def test_warm_up_rises_linearly_to_the_schedule_and_leaves_the_rest_alone():
    warm, plain = SGD(warmup_epochs=4, schedule=Cosine()), SGD(schedule=Cosine())
    pairs = [
        [sgd.rate_at(0.1, epoch=epoch, num_epochs=10) for sgd in (warm, plain)]
        for epoch in range(10)
    ]
    assert [a / b for a, b in pairs] == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * 6)
    with pytest.raises(ValueError, match="warmup_epochs must not be negative, got -1"):
        SGD(warmup_epochs=-1)


def test_a_step_clips_the_norm_of_the_whole_gradient():
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    sgd = SGD(lr=1.0, momentum=0.0, weight_decay=0.0, clip=1.0)
    optimizer = sgd.build(weights)
    weights[0].grad, weights[1].grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])  # norm 7
    sgd.step(optimizer)
    moved = torch.cat([w.detach() for w in weights])
    assert_close(moved, -torch.tensor([2.0, 3.0, 6.0]) / 7, rtol=1e-5, atol=1e-6)
    assert all(w.grad is None for w in weights)


def test_without_clipping_a_step_is_the_gradient():
    weight = nn.Parameter(torch.zeros(1))
    sgd = SGD(lr=1.0, momentum=0.0, weight_decay=0.0, clip=0.0)
    optimizer = sgd.build([weight])
    weight.grad = torch.tensor([100.0])
    sgd.step(optimizer)
    assert weight.item() == -100.0


def test_a_weight_without_a_gradient_stands_still():
    """Neither momentum nor weight decay moves a candidate that was not sampled."""
    sampled, idle = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    sgd = SGD()
    optimizer = sgd.build([sampled, idle])
    for weight in (sampled, idle):
        weight.grad = torch.ones(1)
    sgd.step(optimizer)
    before = idle.item()
    sampled.grad = torch.ones(1)
    sgd.step(optimizer)
    assert idle.item() == before != 1.0
    assert sampled.item() < before


def test_adam_takes_its_numbers_from_the_configuration():
    group = Adam(lr=0.1, betas=(0.4, 0.9), weight_decay=0.2).build([nn.Parameter(torch.ones(1))])
    settings = group.param_groups[0]
    assert (settings["lr"], settings["betas"], settings["weight_decay"]) == (0.1, (0.4, 0.9), 0.2)


def test_set_learning_rate_reaches_every_group():
    optimizer = SGD().build([nn.Parameter(torch.ones(1))])
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(lr=0.0), r"optimizer\.lr must be positive, got 0"),
        (lambda: SGD(momentum=-0.1), r"optimizer\.momentum must lie in \[0, 1\), got -0\.1"),
        (lambda: SGD(lr=math.nan), r"optimizer\.lr must be positive, got nan"),
        (lambda: SGD(momentum=math.nan), r"optimizer\.momentum must lie in \[0, 1\), got nan"),
        (lambda: SGD(weight_decay=math.inf), r"optimizer\.weight_decay must not be negative"),
        (lambda: SGD(clip=math.nan), r"optimizer\.clip must not be negative, got nan"),
        (lambda: Cosine(end=math.nan), r"schedule\.end must not be negative, got nan"),
        (lambda: Adam(lr=math.inf), r"arch_optimizer\.lr must be positive, got inf"),
        (lambda: SGD(clip=-1.0), r"optimizer\.clip must not be negative"),
        (lambda: SGD(momentum=0.0, nesterov=True), r"optimizer\.nesterov needs a positive"),
        (lambda: Adam(lr=-1.0), r"arch_optimizer\.lr must be positive, got -1"),
        (lambda: Adam(betas=(0.5, 1.0)), r"arch_optimizer\.betas must lie in \[0, 1\)"),
        (lambda: Adam(weight_decay=-1.0), r"arch_optimizer\.weight_decay must not be negative"),
        (lambda: Decay(gamma=0.0), r"schedule\.gamma must lie in \(0, 1\]"),
    ],
)
def test_numbers_without_meaning_are_refused(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()
