"""The learning rate that a supernet's kernel allows: measured, taken, and warned about."""

import logging
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.nets.fixed import FixedMixture
from darts_gdas.ntk import empirical_ntk
from darts_gdas.runtime.optim import SGD
from darts_gdas.tasks.initial import FRACTION, choose_learning_rate, learning_rate_bound
from tests.tasks.test_stage import DARTS, GDAS, METHODS, flat, task_of


@METHODS
def test_the_bound_is_that_of_the_largest_eigenvalue(method):
    """2 N O (1 + momentum) / lambda_max, rows one by one, eigenvalues by torch."""
    task = task_of(method)
    task.supernet.double()
    data = task.data.weight_batches
    images = data.normalize(data.images.images).double()  # all 20, in any order
    net = FixedMixture(task.supernet, task.method.relaxation.expected(task.alphas))
    kernel = empirical_ntk(net, images, kind="full", method="loop", batch_norm="frozen")
    n, _, o, _ = kernel.shape
    largest = torch.linalg.eigvalsh(kernel.permute(0, 2, 1, 3).reshape(n * o, n * o))[-1]
    task.supernet.float()
    # float32 rows against float64: eigenvalues keep five digits.
    expected = 2 * n * o * 1.9 / largest.item()
    assert learning_rate_bound(task) == pytest.approx(expected, rel=1e-4)


def test_measuring_leaves_the_search_as_it_is():
    task = task_of(replace(GDAS, optimizer=SGD(lr="auto")))
    state, flags = task.state_dict(), [m.training for m in task.supernet.modules()]
    before = flat(t for t in state["supernet"].values()).clone(), state["noise"].clone()
    text = choose_learning_rate(task)
    after = task.state_dict()
    assert_close(flat(t for t in after["supernet"].values()), before[0], rtol=0, atol=0)
    assert torch.equal(after["noise"], before[1])
    assert [m.training for m in task.supernet.modules()] == flags
    assert after["learning_rate"] == task.learning_rate == FRACTION * learning_rate_bound(task)
    assert text is not None and f"{task.learning_rate:.4g}" in text


def test_cells_that_are_computed_twice_have_the_same_bound():
    plain, twice = task_of(DARTS), task_of(DARTS)
    twice.supernet.checkpoint_cells = True
    assert learning_rate_bound(twice) == learning_rate_bound(plain)
    assert twice.supernet.checkpoint_cells


def test_a_resumed_search_keeps_what_was_measured():
    method = replace(DARTS, optimizer=SGD(lr="auto"))
    first, second = task_of(method), task_of(method)
    choose_learning_rate(first)
    second.load_state_dict(first.state_dict())
    assert second.learning_rate == first.learning_rate > 0


@pytest.mark.parametrize(("lr", "warns"), [(0.025, False), (1e6, True)])
def test_a_rate_beyond_the_bound_is_warned_about(
    caplog: pytest.LogCaptureFixture, lr: float, warns: bool
):
    task = task_of(replace(DARTS, optimizer=SGD(lr=lr)))
    with caplog.at_level(logging.WARNING):
        assert choose_learning_rate(task) is None
    assert task.learning_rate == lr
    assert ("optimizer.lr=1e+06 exceeds" in caplog.text) is warns


def test_without_any_gradient_there_is_no_rate():
    task = task_of(replace(DARTS, optimizer=SGD(lr="auto")))
    for weight in task.supernet.parameters():
        weight.data.zero_()
    task.supernet.classifier.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="give a number"):
        choose_learning_rate(task)
