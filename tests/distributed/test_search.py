"""Two ranks train what one process trains on the whole batch."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import DerivedNet, Layout
from darts_gdas.nets.statistics import batch_norms
from darts_gdas.nets.synced import synchronize_norms
from darts_gdas.runtime.augment import Augment, Normalize
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import BatchStream
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.optim import SGD, Adam
from darts_gdas.runtime.task import Progress
from darts_gdas.search import (
    AdversarialPerturbation,
    ArgMax,
    FirstOrder,
    GumbelHard,
    Softmax,
    Unrolled,
    UnrolledExact,
)
from darts_gdas.space import Genotype, SearchSpace
from darts_gdas.tasks.initial import learning_rate_bound
from darts_gdas.tasks.method import Method, Order, SearchData
from darts_gdas.tasks.retrain import Regularization, RetrainTask
from darts_gdas.tasks.running import Running
from darts_gdas.tasks.stage import StageSearch
from tests.ranks import on_ranks

SPACE = SearchSpace.darts(
    num_nodes=2, candidates=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
)
DARTS = Method(Softmax(), FirstOrder(), ArgMax(), SGD(), Adam(lr=0.1), Order.arch_first)
GDAS = replace(DARTS, relaxation=GumbelHard(), order=Order.weights_first)
METHODS = {
    "darts": DARTS,
    "gdas": GDAS,
    "darts_2nd": replace(DARTS, hypergradient=Unrolled()),
    "darts_exact": replace(DARTS, hypergradient=UnrolledExact()),
    "gdas_2nd": replace(GDAS, hypergradient=Unrolled()),
    "sdarts_adv": replace(DARTS, perturbation=AdversarialPerturbation()),
    "pc_darts": replace(DARTS, partial_channels=2, edge_normalization=True),
}


class InDouble:
    """Normalisation in float64."""

    def __init__(self, normalize: Normalize) -> None:
        self.normalize = normalize

    def __call__(self, images: Tensor) -> Tensor:
        return self.normalize(images).double()


NORMALIZE = Normalize(torch.tensor([0.5]), torch.tensor([0.3]))


def images(count: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 3, ("a", "b", "c"))


def stream(data: ImageSet, name: str, ranks: Ranks) -> BatchStream:
    return BatchStream(
        data, batch_size=8, augment=Augment(1, True, 2), normalize=NORMALIZE, seed=0, name=name,
        ranks=ranks,
    )  # fmt: skip


def prepared(net: nn.Module, *, synced: bool) -> None:
    """In float64, and with norms that give one result for any cut of the batch."""
    net.train()
    if not synced:  # they normalise with their first statistics
        for norm in batch_norms(net):
            norm.eval()


def search_task(
    method: Method, ranks: Ranks, *, synced: bool, space: SearchSpace = SPACE
) -> StageSearch:
    torch.manual_seed(0)
    halves = images(21, 1), images(13, 2)
    data = SearchData(
        stream(halves[0], "weights", ranks), stream(halves[1], "arch", ranks), halves[1], NORMALIZE
    )
    running = Running(Compute(torch.device("cpu"), ranks=ranks), seed=0, sync_batch_norm=synced)
    return StageSearch(
        space, Layout(2 * method.partial_channels, 3, 3, 1), method, data, 2, running
    )


def searched(method: Method, ranks: Ranks, *, synced: bool) -> list[Tensor]:
    """Alphas and weights after three steps; the third batch has 5 images: 3 and 2."""
    torch.set_default_dtype(torch.float64)
    try:
        task = search_task(method, ranks, synced=synced)
        for half in (task.data.weight_batches, task.data.arch_batches):
            half.normalize = InDouble(NORMALIZE)  # type: ignore[assignment]
        task.alphas.double()
        prepared(task.supernet, synced=synced)
        for step in range(3):
            task.train_step(Progress(0, 2, step, 3))
    finally:
        torch.set_default_dtype(torch.float32)
    assert task.steps_per_epoch == 3
    return [*task.alphas.parameters(), *task.supernet.parameters(), *task.supernet.buffers()]


@pytest.mark.parametrize(
    ("method", "synced"),
    [
        pytest.param(
            name,
            synced,
            id=f"{name}, {'synced' if synced else 'fixed'} norms",
            marks=[pytest.mark.slow] if synced and name not in ("darts", "gdas") else [],
        )
        for name in METHODS
        for synced in (False, True)
    ],
)
def test_two_ranks_search_what_one_process_searches(tmp_path: Path, method: str, synced: bool):
    def work(ranks: Ranks) -> list[list]:
        return [t.tolist() for t in searched(METHODS[method], ranks, synced=synced)]

    expected = searched(METHODS[method], ALONE, synced=synced)
    one, other = on_ranks(work, tmp_path)
    assert one == other  # bit for bit
    for got, want in zip(one, expected, strict=True):
        assert_close(torch.tensor(got, dtype=want.dtype), want.detach(), rtol=0, atol=1e-12)


def retrained(ranks: Ranks, *, synced: bool) -> list[Tensor]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        net = DerivedNet(Genotype.load("DARTS_V2"), Layout(4, 3, 3, 1), auxiliary=True)
        if synced and ranks.size > 1:
            synchronize_norms(net)
        batches = stream(images(21, 1), "train", ranks)
        batches.normalize = InDouble(NORMALIZE)  # type: ignore[assignment]
        task = RetrainTask(
            net, batches, images(7, 3), NORMALIZE,
            optimizer=SGD(), regularization=Regularization(drop_path=0.0), num_epochs=2,
            compute=Compute(torch.device("cpu"), channels_last=True, ranks=ranks),
        )  # fmt: skip
        for step in range(3):
            prepared(net, synced=synced)
            net.train = lambda mode=True: net  # type: ignore[method-assign]
            task.train_step(Progress(0, 2, step, 3))
            del net.train
    finally:
        torch.set_default_dtype(torch.float32)
    return [*net.parameters(), *net.buffers()]


@pytest.mark.parametrize("synced", [False, True], ids=["fixed_norms", "synced_norms"])
def test_two_ranks_retrain_what_one_process_retrains(tmp_path: Path, synced: bool):
    def work(ranks: Ranks) -> list[list]:
        return [t.tolist() for t in retrained(ranks, synced=synced)]

    expected = retrained(ALONE, synced=synced)
    one, other = on_ranks(work, tmp_path)
    assert one == other
    for got, want in zip(one, expected, strict=True):
        assert_close(torch.tensor(got, dtype=want.dtype), want.detach(), rtol=0, atol=1e-12)


def test_the_first_rank_measures_while_the_others_do_something_else(tmp_path: Path):
    """Diagnostics and the rate's bound wait for nobody, also where norms otherwise would."""

    def measured(ranks: Ranks) -> tuple[float, ...]:
        task = search_task(DARTS, ranks, synced=True)
        if not ranks.is_first:
            return ()
        mixture = task.method.relaxation.expected(task.alphas)
        curvature = task.probe.curvature(task.alphas, task.method.relaxation, num_batches=1)
        return task.probe.accuracy(mixture), curvature, learning_rate_bound(task)

    alone, (first, other) = measured(ALONE), on_ranks(measured, tmp_path)
    assert first == pytest.approx(alone, rel=1e-4) and other == ()
