"""What is measured on a supernet, by another route; and that measuring moves nothing."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.search import GumbelHard, Softmax, Uniform
from darts_gdas.tasks.stage import StageSearch
from tests.tasks.test_stage import BENCH, DARTS, GDAS, SPACE, at, flat, task_of
from tests.tasks.test_stage import images as image_set


def in_double(task: StageSearch) -> StageSearch:
    task.supernet.double()
    task.alphas.double()
    normalize = task.probe.normalize
    task.probe.normalize = lambda images: normalize(images).double()
    return task


def dense_hessian(task: StageSearch, num_batches: int) -> Tensor:
    """By autograd's own loop over the alphas, through a plain call of the network."""
    shapes = [tuple(p.shape) for p in task.alphas.parameters()]
    sizes = [p.numel() for p in task.alphas.parameters()]
    task.supernet.train()

    def loss(alphas: Tensor) -> Tensor:
        rows = [
            part.reshape(shape) for part, shape in zip(alphas.split(sizes), shapes, strict=True)
        ]
        mixture = task.alphas.unstack(torch.cat(rows).softmax(-1))
        losses = [
            F.cross_entropy(task.supernet(x.double(), mixture), y)
            for x, y, *_ in task.probe.batches(num_batches)
        ]
        return torch.stack(losses).mean()

    start = flat(task.alphas.parameters())
    return torch.as_tensor(torch.autograd.functional.hessian(loss, start))


@pytest.mark.parametrize(
    ("space", "relaxation"),
    [(SPACE, Softmax()), (BENCH, GumbelHard())],
    ids=["darts, softmax", "nasbench201, gumbel_hard"],
)
def test_the_curvature_is_the_dense_hessians_largest_eigenvalue(space, relaxation):
    """A supernet in float64 with alphas of some size; sampled paths count by their mean."""
    task = in_double(task_of(DARTS, space=space))
    with torch.no_grad():
        for logits in task.alphas.parameters():
            logits.mul_(300)
    values = torch.linalg.eigvalsh(dense_hessian(task, 1))
    expected = float(values[values.abs().argmax()])
    found = task.probe.curvature(task.alphas, relaxation, num_batches=1)
    assert found == pytest.approx(expected, rel=1e-3)


def test_several_batches_are_averaged():
    task = in_double(task_of(DARTS, space=BENCH))
    task.probe._indices = torch.arange(14).tensor_split(2)
    values = torch.linalg.eigvalsh(dense_hessian(task, 2))
    expected = float(values[values.abs().argmax()])
    found = task.probe.curvature(task.alphas, Softmax(), num_batches=2)
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_mixture_without_alphas_has_no_curvature():
    task = task_of(DARTS)
    assert task.probe.curvature(task.alphas, Uniform(), num_batches=1) == 0.0


def test_accuracy_is_that_of_the_network_in_training_mode_on_the_arch_half():
    """Two routes: the probe, and one plain pass over each of its batches."""
    task = task_of(DARTS)
    for step in range(3):
        task.train_step(at(task, step))
    mixture = Softmax().expected(task.alphas)
    found = task.probe.accuracy(mixture)
    correct = seen = 0
    with torch.no_grad():
        for x, y, *_ in task.probe.batches():
            correct += int((task.supernet(x, mixture).argmax(1) == y).sum())
            seen += len(y)
    assert seen == len(task.data.validation) == 14
    assert found == correct / seen


@pytest.mark.parametrize(("images", "batches"), [(14, 1), (16, 2), (23, 2), (65, 8)])
def test_batches_are_a_partition_into_nearly_equal_parts(images: int, batches: int):
    task = task_of(DARTS)
    data = replace(task.data, validation=image_set(images, 3))
    probe = type(task.probe)(task.supernet, [], data, task.compute, seed=1)
    sizes = [len(y) for _, y, *_ in probe.batches()]
    assert len(sizes) == batches == probe.num_batches
    assert sum(sizes) == images and max(sizes) - min(sizes) <= 1
    assert sorted(torch.cat(list(probe._indices)).tolist()) == list(range(images))
    again = type(task.probe)(task.supernet, [], data, task.compute, seed=1)
    assert torch.equal(torch.cat(list(again._indices)), torch.cat(list(probe._indices)))


def test_measuring_moves_nothing():
    """Neither weights nor statistics, gradients, alphas or random numbers."""
    task = task_of(GDAS)
    task.train_step(at(task, 0))
    before = {name: value.clone() for name, value in task.supernet.state_dict().items()}
    alphas, noise, torchs = (
        flat(task.alphas.parameters()),
        task.noise.get_state(),
        torch.get_rng_state(),
    )
    gradients = [p.grad for p in task.alphas.parameters()]
    task.probe.accuracy(GumbelHard().expected(task.alphas))
    task.probe.curvature(task.alphas, GumbelHard(), num_batches=1)
    for name, value in task.supernet.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(weight.grad is None for weight in task.supernet.parameters())
    assert [p.grad for p in task.alphas.parameters()] == gradients
    assert torch.equal(flat(task.alphas.parameters()), alphas)
    assert torch.equal(task.noise.get_state(), noise) and torch.equal(torch.get_rng_state(), torchs)


def test_cells_that_are_computed_again_have_the_same_curvature():
    task = in_double(task_of(DARTS, space=BENCH))
    plain = task.probe.curvature(task.alphas, Softmax(), num_batches=1)
    task.supernet.checkpoint_cells = True
    again = task.probe.curvature(task.alphas, Softmax(), num_batches=1)
    assert_close(torch.tensor(again), torch.tensor(plain), rtol=1e-9, atol=0.0)
