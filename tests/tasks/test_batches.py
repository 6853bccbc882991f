import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compute import Compute, Precision
from darts_gdas.runtime.data import Batch
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.images import ImageSet
from darts_gdas.tasks.batches import (
    batch_loss,
    count_correct,
    evaluate,
    full_precision,
    random_images,
)
from tests.ranks import on_ranks

NORMALIZE = Normalize(torch.tensor([0.5]), torch.tensor([0.3]))


def images(count: int = 30) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 7, tuple("abcdefg"))


def linear_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))


@pytest.mark.parametrize("batch_size", [1, 7, 30, 100])
def test_evaluation_equals_counting_by_hand(batch_size: int):
    net, data = linear_net(), images()
    losses, top1, top5 = [], 0, 0
    counts = torch.zeros(7, 7, dtype=torch.int64)
    with torch.no_grad():
        for image, label in zip(data.images, data.labels.tolist(), strict=True):
            logits = net(NORMALIZE(image[None]))
            losses.append(F.cross_entropy(logits, torch.tensor([label])).item())
            order = logits[0].argsort(descending=True).tolist()
            top1 += order[0] == label
            top5 += label in order[:5]
            counts[label, order[0]] += 1
    compute = Compute(torch.device("cpu"))
    evaluation = evaluate(net, data, normalize=NORMALIZE, batch_size=batch_size, compute=compute)
    assert torch.equal(evaluation.confusion.counts, counts)
    assert evaluation.confusion.classes == data.classes
    found = evaluation.metrics
    assert found["balanced_accuracy"] == evaluation.confusion.balanced_accuracy
    assert found["loss"] == pytest.approx(sum(losses) / len(data), rel=1e-5)
    assert found["accuracy"] == pytest.approx(top1 / len(data))
    assert found["accuracy_top5"] == pytest.approx(top5 / len(data))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_ranks_share_the_images_also_where_there_are_few(tmp_path: Path, count: int):
    def figures(ranks: Ranks) -> dict[str, float]:
        compute = Compute(torch.device("cpu"), ranks=ranks)
        return evaluate(
            linear_net(), images(count), normalize=NORMALIZE, batch_size=2, compute=compute
        ).metrics

    alone = figures(ALONE)
    for found in on_ranks(figures, tmp_path, size=3):
        assert found == pytest.approx(alone, rel=1e-6)


def test_bfloat16_changes_the_loss_a_little_and_only_a_little():
    exact, rough = (
        evaluate(
            linear_net(),
            images(),
            normalize=NORMALIZE,
            batch_size=10,
            compute=Compute(torch.device("cpu"), precision),
        ).metrics["loss"]
        for precision in (Precision.fp32, Precision.bf16)
    )
    assert exact != rough and rough == pytest.approx(exact, rel=0.02)  # bf16 has 8 bits


def test_with_fewer_classes_than_five_the_top_five_are_all():
    logits, labels = torch.randn(9, 3), torch.arange(9) % 3
    assert count_correct(logits, labels, top=5) == 9


def test_the_top_five_of_five_classes_are_no_figure():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    data = images()
    data = ImageSet(data.images, data.labels % 5, tuple("abcde"))
    compute = Compute(torch.device("cpu"))
    found = evaluate(net, data, normalize=NORMALIZE, batch_size=9, compute=compute)
    assert set(found.metrics) == {"loss", "accuracy", "balanced_accuracy"}


def test_full_precision_raises_halves_and_leaves_the_rest():
    for dtype, expected in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        assert full_precision(torch.zeros(1, dtype=dtype)).dtype == expected


def drawn(pixels: torch.Tensor, count: int, seed: int = 3) -> torch.Tensor:
    """Pixels of random images, not normalised."""
    data = ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.long), ("a",))
    plain = Normalize(torch.zeros(1), torch.ones(1))
    found = random_images(data, plain, count=count, seed=seed, device=torch.device("cpu"))
    return (found * 255).round().to(torch.uint8)


@pytest.mark.parametrize("count", [1, 8, 30, 99])
def test_random_images_are_the_first_of_a_random_order(count: int):
    pixels = images().images
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    assert torch.equal(drawn(pixels, count), pixels[order[:count]])


def test_random_images_hold_no_picture_twice():
    """By another route: the order, of which whatever stands there already is struck out."""
    pixels = images(10).images.repeat(3, 1, 1, 1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3)).tolist()
    expected = [i for at, i in enumerate(order) if i % 10 not in {j % 10 for j in order[:at]}]
    assert torch.equal(drawn(pixels, 32), pixels[expected])
    assert torch.equal(drawn(pixels, 4), pixels[expected[:4]])


def test_random_images_of_a_set_of_copies_are_copies():
    assert (
        drawn(torch.full((9, 1, 4, 4), 7, dtype=torch.uint8), 4).tolist() == [[[[7] * 4] * 4]] * 4
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_importance_of_two_is_the_image_twice(smoothing: float):
    """Smoothed targets too: the closed form of three images, the second counted twice."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).double()
    labels = torch.tensor([0, 0, 1])
    importance = torch.tensor([1.0, 2.0, 1.0]).double()
    found = batch_loss(
        logits, Batch(logits, labels, importance=importance), label_smoothing=smoothing
    )
    chosen = torch.tensor([0, 1, 1, 2])
    twice = batch_loss(logits[chosen], Batch(logits, labels[chosen]), label_smoothing=smoothing)
    assert_close(3 * found, 4 * twice)
    right = [math.log1p(math.exp(-2)), math.log1p(math.exp(1)), math.log(2)]
    wrong = [right[0] + 2, right[1] - 1, math.log(2)]
    by_hand = sum(
        times * ((1 - smoothing / 2) * r + smoothing / 2 * w)
        for times, r, w in zip((1, 2, 1), right, wrong, strict=True)
    )
    assert float(3 * found) == pytest.approx(by_hand)
