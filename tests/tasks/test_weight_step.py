"""Batches in parts, and float16: the gradient of the whole batch in float32."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import Layout
from darts_gdas.nets.statistics import batch_norms
from darts_gdas.runtime.augment import Augment, Normalize
from darts_gdas.runtime.compute import Compute, Precision
from darts_gdas.runtime.data import Batch, BatchStream
from darts_gdas.runtime.finite import FiniteGuard, NotFinite
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.optim import SGD, Adam
from darts_gdas.runtime.task import Progress
from darts_gdas.search import ArgMax, FirstOrder, GumbelHard, Softmax
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.method import Method, Order, SearchData
from darts_gdas.tasks.running import Running
from darts_gdas.tasks.stage import StageSearch
from darts_gdas.tasks.weight_step import WeightStep, split

CPU = Compute(torch.device("cpu"))
HALF = replace(CPU, precision=Precision.fp16)


def batch(count: int = 7, weight: float = 1.0) -> Batch:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 1, 2, 2, generator=generator)
    return Batch(x, torch.arange(count) % 3, weight)


@pytest.mark.parametrize(("images", "count"), [(7, 1), (7, 2), (7, 3), (7, 9), (2, 4)])
def test_parts_are_the_batch_and_their_means_add_up_to_its_mean(images: int, count: int):
    whole = batch(images, weight=1.5)
    parts = split(whole, count)
    assert len(parts) == max(min(count, int(images / 1.5) // 2), 1)
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert all(len(part.labels) >= 2 for part in parts)
    values = whole.images.flatten(1).sum(1)
    sums = sum(
        v.mean() * part.weight
        for v, part in zip(values.tensor_split(len(parts)), parts, strict=True)
    )
    assert_close(sums, 1.5 * values.mean())


def test_parts_keep_what_their_images_count():
    whole = batch(7)._replace(importance=torch.arange(7.0))
    parts = split(whole, 3)
    losses = [(part.importance * part.images.flatten(1).sum(1)).mean() for part in parts]
    total = sum(part.weight * loss for part, loss in zip(parts, losses, strict=True))
    assert_close(total, (whole.importance * whole.images.flatten(1).sum(1)).mean())


@pytest.mark.parametrize("images", range(4, 12))
def test_ranks_with_an_image_more_or_less_cut_alike(images: int):
    """As a stream shares them: three ranks, sizes that differ by one at most."""
    sizes = [len(part) for part in torch.arange(images).tensor_split(3)]
    for count in (1, 2, 4):
        cuts = {len(split(batch(size, size * 3 / images), count)) for size in sizes if size >= 1}
        assert len(cuts) == 1


def step_of(compute: Compute = CPU, accumulate: int = 1, *, gain: float = 1.0) -> WeightStep:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        net[1].weight *= gain
    sgd = SGD(lr=0.1, momentum=0.0, weight_decay=0.0, clip=0.0)
    return WeightStep(net, sgd, compute, FiniteGuard(), accumulate)


def taken(step: WeightStep, data: Batch, compute: Compute = CPU) -> Tensor:
    def run(part: Batch, more: bool) -> tuple[Tensor, Tensor]:
        with compute.forward_pass():
            logits = step.replica(part.images, sparse=more)
        return F.cross_entropy(logits.float(), part.labels), logits

    return step(data, run)


def weights(step: WeightStep) -> Tensor:
    return torch.cat([p.detach().flatten() for p in step.module.parameters()])


@pytest.mark.parametrize("accumulate", [2, 3])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(accumulate: int):
    whole, parts = step_of(), step_of(accumulate=accumulate)
    assert_close(taken(parts, batch()), taken(whole, batch()))
    assert_close(weights(parts), weights(whole), rtol=1e-6, atol=1e-7)


def test_float16_takes_the_step_of_float32_to_its_precision():
    half, full = step_of(HALF), step_of()
    taken(half, batch(), HALF)
    taken(full, batch())
    moved = weights(full) - weights(step_of())
    assert_close(weights(half) - weights(step_of()), moved, rtol=2e-2, atol=2e-4)


def test_an_overflow_leaves_the_weights_and_halves_the_scale_until_it_fits():
    step, scales = step_of(HALF, gain=30.0), []
    start = weights(step)
    while torch.equal(weights(step), start) and len(scales) < 20:
        scales.append(step.scale)
        taken(step, batch(), HALF)
    assert scales == [2.0**16 / 2**i for i in range(len(scales))]
    assert 1 < len(scales) < 16 and torch.isfinite(weights(step)).all()


def test_a_gradient_that_is_no_question_of_range_stops_float16_too():
    step, data = step_of(HALF), batch()
    data.images[0] = torch.nan
    with pytest.raises(NotFinite, match="weight step: the loss is nan"):
        for _ in range(20):
            taken(step, data, HALF)
    assert step.scale == 1


def test_the_scale_is_part_of_the_state():
    step, other = step_of(HALF), step_of(HALF)
    step.halve_scale() if step.scaler._scale is not None else taken(step, batch(), HALF)
    step.halve_scale()
    other.load_state_dict(step.state_dict())
    assert other.scale == step.scale == 2.0**15
    assert step_of().scale == 1  # of float32


SPACE = SearchSpace.darts(
    num_nodes=2, candidates=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
)
DARTS = Method(Softmax(), FirstOrder(), ArgMax(), SGD(), Adam(lr=0.1), Order.arch_first)
GDAS = replace(DARTS, relaxation=GumbelHard(), order=Order.weights_first)
METHODS = pytest.mark.parametrize("method", [DARTS, GDAS], ids=["darts", "gdas"])


def searched(
    method: Method, compute: Compute = CPU, accumulate: int = 1, *, fixed: bool = True
) -> list[Tensor]:
    """Alphas and weights after two steps, with norms that see no batch."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8)
    data = ImageSet(pixels, torch.arange(16) % 3, ("a", "b", "c"))
    normalize = Normalize(torch.tensor([0.5]), torch.tensor([0.3]))
    streams = [
        BatchStream(data, batch_size=8, augment=Augment(), normalize=normalize, seed=0, name=name)
        for name in ("weights", "arch")
    ]
    task = StageSearch(
        SPACE, Layout(2, 3, 3, 1), method, SearchData(*streams, data, normalize), 1,
        Running(compute, seed=0, accumulate=accumulate),
    )  # fmt: skip
    if compute.precision is Precision.fp16:  # where it settles, after a few steps left out
        task.weight_step.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    task.supernet.train()
    if fixed:
        for norm in batch_norms(task.supernet):
            norm.eval()
    for step in range(2):
        task.train_step(Progress(0, 1, step, 2))
    return [p.detach() for p in (*task.alphas.parameters(), *task.supernet.parameters())]


@METHODS
def test_a_search_in_parts_is_the_search_of_whole_batches(method: Method):
    for got, want in zip(searched(method, accumulate=3), searched(method), strict=True):
        assert_close(got, want, rtol=1e-4, atol=1e-6)


@METHODS
@pytest.mark.parametrize("precision", [Precision.fp16, Precision.bf16])
def test_a_search_in_half_precision_goes_about_the_same_way(method: Method, precision: Precision):
    half = searched(method, replace(CPU, precision=precision), fixed=False)
    full = searched(method, fixed=False)
    start = searched(replace(method, optimizer=SGD(lr=1e-12)), fixed=False)
    moved, expected = (
        torch.cat([(b - a).flatten() for a, b in zip(start[2:], end[2:], strict=True)])
        for end in (half, full)
    )
    assert F.cosine_similarity(moved, expected, dim=0) > 0.8
