"""Operations that stop: by their gradients' cosine, at the right step, for good."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from darts_gdas.search.hypergradient import detached
from darts_gdas.search.operation_stop import OperationStop
from darts_gdas.tasks.method import Method
from darts_gdas.tasks.stage import StageSearch
from tests.tasks.test_stage import DARTS, GDAS, at, flat, task_of

NEVER = OperationStop(threshold=-0.999999, steps=1)


def oles(threshold: float, steps: int, method: Method = DARTS) -> Method:
    return replace(method, operation_stop=OperationStop(threshold, steps))


def run(method: Method, steps: int) -> StageSearch:
    task = task_of(method)
    for step in range(steps):
        task.train_step(at(task, step))
    return task


def stopped(task: StageSearch) -> dict[str, bool]:
    assert task.watch is not None
    return dict(zip(task.watch.names, task.watch.state_dict()["stopped"].tolist(), strict=True))


def test_its_mean_is_the_cosine_of_all_an_operations_gradients_together():
    """Recomputed by the supernet's own backward pass on both halves, after one step."""
    task, plain = (
        task_of(replace(DARTS, operation_stop=OperationStop(-0.999999, 9))),
        task_of(DARTS),
    )
    for each in (task, plain):
        each.arch_step(each.data.weight_batches.batch(0), each.data.arch_batches.batch(0), 0.0)
    found = []
    for batch in (plain.data.arch_batches.batch(0), plain.data.weight_batches.batch(0)):
        mixture = plain.method.relaxation(plain.alphas, progress=0.0, rng=None).detach()
        plain.supernet.zero_grad()
        F.cross_entropy(plain.supernet(batch.images, mixture), batch.labels).backward()
        grads = {name: w.grad.clone() for name, w in plain.supernet.named_parameters()}
        found.append(grads)
    task.step_weights(task.data.weight_batches.batch(0), 0.0, task.data.arch_batches.batch(0))
    assert task.watch is not None
    state = task.watch.state_dict()
    assert set(state["counts"].tolist()) == {1}
    for name, mean in zip(task.watch.names, state["sums"].tolist(), strict=True):
        a, b = (flat(g for n, g in grads.items() if n.startswith(f"{name}.")) for grads in found)
        assert mean == pytest.approx(F.cosine_similarity(a, b, dim=0).item(), abs=1e-4)


@pytest.mark.parametrize("method", [DARTS, GDAS], ids=["darts", "gdas"])
def test_a_threshold_that_is_never_met_changes_nothing(method: Method):
    """Bit for bit: weights, alphas, running statistics, noise."""
    watched, plain = run(replace(method, operation_stop=NEVER), 4), run(method, 4)
    assert not any(stopped(watched).values())
    for mine, other in ((watched.supernet, plain.supernet), (watched.alphas, plain.alphas)):
        for name, value in mine.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    assert torch.equal(watched.noise.get_state(), plain.noise.get_state())


def test_all_stop_after_the_first_window_where_all_are_below_and_the_rest_learns_on():
    task = run(oles(1.0, steps=2), 2)
    assert all(stopped(task).values())
    before = {name: w.clone() for name, w in task.supernet.named_parameters()}
    task.train_step(at(task, 2))
    for name, weight in task.supernet.named_parameters():
        assert torch.equal(weight, before[name]) == (".candidates." in name), name
    assert task.evaluate(at(task, 3))["search/stopped_operations"] == 1.0


def test_nothing_stops_before_its_window_is_full():
    assert not any(stopped(run(oles(1.0, steps=3), 2)).values())


def test_a_sampled_path_counts_the_steps_in_which_an_operation_ran():
    task = run(oles(-0.999999, steps=100, method=GDAS), 6)
    assert task.watch is not None
    counts = task.watch.state_dict()["counts"]
    assert int(counts.min() + counts.max()) > 0 and int(counts.max()) <= 6
    assert len(set(counts.tolist())) > 1


@pytest.mark.parametrize("accumulate", [1, 2])
def test_parts_of_a_batch_sum_to_the_whole(accumulate: int):
    task = task_of(oles(0.0, 5))
    batch = task.data.arch_batches.batch(0)
    mixture = task.expected()
    weights = detached(task.arch_step.named_weights)
    losses = [partial(task.arch_step.loss(batch), mixture=mixture)] * accumulate
    assert task.watch is not None
    task.watch.look(losses, weights)
    seen = task.watch._validation
    assert seen is not None
    leaves = {n: w.requires_grad_() for n, w in weights.items()}
    loss = accumulate * task.arch_step.loss(batch)(leaves, mixture)
    expected = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    assert_close([*seen.values()], list(expected))


def test_it_goes_on_bit_for_bit_from_a_checkpoint():
    whole = run(oles(0.0, steps=2), 5)
    assert 0 < sum(stopped(whole).values()) < len(stopped(whole))
    first, second = run(oles(0.0, steps=2), 3), task_of(oles(0.0, steps=2), seed=0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in (3, 4):
        second.train_step(at(second, step))
    assert stopped(second) == stopped(whole)
    assert torch.equal(flat(second.supernet.parameters()), flat(whole.supernet.parameters()))
    assert torch.equal(flat(second.alphas.parameters()), flat(whole.alphas.parameters()))
