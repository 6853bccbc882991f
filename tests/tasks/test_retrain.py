import copy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from darts_gdas.nets import DerivedNet, Layout
from darts_gdas.runtime.augment import Augment, Normalize
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import BatchStream
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.optim import SGD
from darts_gdas.runtime.task import Progress
from darts_gdas.space import Genotype
from darts_gdas.tasks.retrain import Regularization, RetrainTask

CPU = Compute(torch.device("cpu"))
NORMALIZE = Normalize(torch.tensor([0.5]), torch.tensor([0.3]))


def images(count: int = 30) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 7, tuple("abcdefg"))


def task_of(regularization: Regularization, seed: int = 0) -> RetrainTask:
    torch.manual_seed(seed)
    data = images()
    net = DerivedNet(
        Genotype.load("DARTS_V2"),
        Layout(4, 3, data.num_classes, 1),
        auxiliary=regularization.auxiliary_weight > 0,
    )
    stream = BatchStream(
        data, batch_size=10, augment=Augment(1), normalize=NORMALIZE, seed=0, name="train"
    )
    return RetrainTask(
        net,
        stream,
        data,
        NORMALIZE,
        optimizer=SGD(),
        regularization=regularization,
        num_epochs=4,
        compute=CPU,
    )


def at(epoch: int, step: int = 0) -> Progress:
    return Progress(epoch, 4, step, 3)


def test_the_gradient_is_that_of_both_losses():
    """0.4 times the auxiliary loss is added, both with label smoothing."""
    task = task_of(Regularization(auxiliary_weight=0.4, drop_path=0.0, label_smoothing=0.1))
    x, y, *_ = task.stream.batch(0)
    task.net.train()
    logits, auxiliary = task.net(x)
    loss = F.cross_entropy(logits, y, label_smoothing=0.1)
    loss = loss + 0.4 * F.cross_entropy(auxiliary, y, label_smoothing=0.1)
    expected = torch.autograd.grad(loss, list(task.net.parameters()))
    found = []
    task.sgd.step = lambda optimizer, passes: found.extend(  # type: ignore[method-assign]
        parameter.grad for parameter in task.net.parameters()
    )
    task.train_step(at(0))
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_class_weights_are_in_both_losses_and_beside_label_smoothing():
    task = task_of(Regularization(auxiliary_weight=0.4, drop_path=0.0, label_smoothing=0.1))
    task.stream.class_weights = weights = torch.arange(1.0, 8.0)
    x, y, *_ = task.stream.batch(0)
    task.net.train()
    loss = sum(
        share * (weights[y] * F.cross_entropy(out, y, reduction="none", label_smoothing=0.1)).mean()
        for share, out in zip((1, 0.4), task.net(x), strict=True)
    )
    expected = torch.autograd.grad(loss, list(task.net.parameters()))
    found = []
    task.sgd.step = lambda optimizer, passes: found.extend(  # type: ignore[method-assign]
        parameter.grad for parameter in task.net.parameters()
    )
    task.train_step(at(0))
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_without_weight_there_is_no_auxiliary_head():
    task = task_of(Regularization(auxiliary_weight=0.0))
    assert task.net.auxiliary is None
    task.train_step(at(0))


def test_drop_path_rises_linearly_from_zero():
    task = task_of(Regularization(drop_path=0.2))
    seen = []
    for epoch in range(4):
        task.train_step(at(epoch))
        seen.append(task.net.drop_path_probability)
    assert seen == pytest.approx([0.0, 0.05, 0.1, 0.15])
    assert task.evaluate(at(2))["train/drop_path"] == pytest.approx(0.1)


def test_saved_and_loaded_continues_bit_for_bit():
    """Drop-path draws from torch's global generator, which the loop saves and restores."""
    regularization = Regularization(drop_path=0.5)
    whole = task_of(regularization)
    for step in range(2):
        whole.train_step(at(1, step))
    state, random = copy.deepcopy(whole.state_dict()), torch.get_rng_state()
    whole.train_step(at(1, 2))

    second = task_of(regularization, seed=5)
    second.load_state_dict(state)
    torch.set_rng_state(random)
    second.train_step(at(1, 2))
    for a, b in zip(whole.net.state_dict().values(), second.net.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drop_path": 1.0}, r"regularization\.drop_path must lie in \[0, 1\), got 1"),
        ({"label_smoothing": -0.1}, r"regularization\.label_smoothing must lie in \[0, 1\)"),
        ({"auxiliary_weight": -1.0}, r"regularization\.auxiliary_weight must not be negative"),
    ],
)
def test_numbers_without_meaning_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Regularization(**settings)
