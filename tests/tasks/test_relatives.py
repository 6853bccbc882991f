"""Relatives of DARTS as searches: their limits are DARTS bit for bit, and they go on so."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.search import AuxiliarySkip, LayerAlignment, Linear
from darts_gdas.tasks.method import Method
from darts_gdas.tasks.stage import StageSearch
from tests.tasks.test_stage import BENCH, DARTS, GDAS, at, flat, task_of

MINUS = replace(DARTS, relaxation=AuxiliarySkip())
LAMBDA = replace(DARTS, hypergradient=LayerAlignment())


def run(method: Method, steps: int, space=None) -> StageSearch:
    task = task_of(method) if space is None else task_of(method, space=space)
    for step in range(steps):
        task.train_step(at(task, step))
    return task


def assert_equal(mine: StageSearch, other: StageSearch) -> None:
    for a, b in ((mine.supernet, other.supernet), (mine.alphas, other.alphas)):
        for name, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[name]), name


@pytest.mark.parametrize(
    "limit",
    [
        replace(DARTS, relaxation=AuxiliarySkip(Linear(0.0, 0.0))),
        replace(DARTS, hypergradient=LayerAlignment(weight=0.0)),
    ],
    ids=["darts_minus", "lambda_darts"],
)
def test_without_its_weight_it_is_darts_bit_for_bit(limit: Method):
    assert_equal(run(limit, 4), run(DARTS, 4))


@pytest.mark.parametrize("method", [MINUS, LAMBDA], ids=["darts_minus", "lambda_darts"])
def test_with_its_weight_it_is_not(method: Method):
    mine, other = run(method, 2), run(DARTS, 2)
    assert not torch.equal(flat(mine.alphas.parameters()), flat(other.alphas.parameters()))


@pytest.mark.parametrize("method", [MINUS, LAMBDA], ids=["darts_minus", "lambda_darts"])
def test_it_goes_on_bit_for_bit_from_a_checkpoint(method: Method):
    whole, first, second = run(method, 4), run(method, 2), task_of(method)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in (2, 3):
        second.train_step(at(second, step))
    assert_equal(second, whole)


@pytest.mark.parametrize("space", [None, BENCH], ids=["darts", "nasbench201"])
def test_a_mixture_per_cell_of_equal_ones_is_the_shared_one(space):
    task = run(DARTS, 0, space)
    images = task.data.arch_batches.batch(0).images
    mixture = task.expected()
    per_cell = mixture.per_cell(task.arch_step.cells)
    task.supernet.eval()
    assert torch.equal(task.supernet(images, per_cell), task.supernet(images, mixture))


def test_each_cell_sees_its_own_mixture():
    """The gradient of a shared mixture is the sum of those of the cells, none of which is zero."""
    task = run(DARTS, 1)
    batch = task.data.arch_batches.batch(0)
    task.supernet.eval()
    shared = task.expected().require_grad()
    per_cell = task.expected().per_cell(task.arch_step.cells).require_grad()
    for mixture in (shared, per_cell):
        torch.nn.functional.cross_entropy(
            task.supernet(batch.images, mixture), batch.labels
        ).backward()
    for one, many in zip(shared.leaves(), per_cell.leaves(), strict=True):
        assert many.grad is not None and one.grad is not None
        assert all(bool(g.any()) for g in many.grad)
        assert_close(many.grad.sum(0), one.grad, rtol=1e-4, atol=1e-6)


def test_a_mixture_for_too_few_cells_is_refused():
    task = run(DARTS, 0)
    few = task.expected().per_cell(dict.fromkeys(task.space.cells, 7))
    with pytest.raises(ValueError, match="must have shape"):
        task.supernet(task.data.arch_batches.batch(0).images, few)


def test_alignment_works_on_a_sampled_path():
    task = run(replace(GDAS, hypergradient=LayerAlignment()), 3)
    assert torch.isfinite(flat(task.alphas.parameters())).all()
