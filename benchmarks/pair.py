"""A search task beside its plain counterpart, on random images of CIFAR's size."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

import darts_gdas.native as native
from benchmarks.measure import interleaved
from benchmarks.reference import plain_net
from darts_gdas.native import Kernels
from darts_gdas.nets import Layout
from darts_gdas.nets.skeletons.nasbench201 import NASBENCH201
from darts_gdas.runtime.augment import Augment, Normalize
from darts_gdas.runtime.compute import Compute, Precision
from darts_gdas.runtime.data import Batch, BatchStream
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.optim import SGD, Adam
from darts_gdas.search import (
    ArgMax,
    FirstOrder,
    GumbelHard,
    Hypergradient,
    Relaxation,
    Softmax,
    Unrolled,
    UnrolledExact,
)
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.method import Method, Order, SearchData
from darts_gdas.tasks.running import Running
from darts_gdas.tasks.stage import StageSearch

SPACE = SearchSpace.named("darts")


class Network(NamedTuple):
    """What is timed: a relaxation of a space, in a network of some size."""

    relaxation: Relaxation
    channels: int
    space: SearchSpace = SPACE

    def layout(self, layers: int) -> Layout:
        """That of CIFAR-10 with this many layers, five of them in NAS-Bench-201."""
        if self.space is SPACE:
            return Layout(self.channels, layers, 10)
        return Layout(self.channels, NASBENCH201.fewest_layers, 10, skeleton=NASBENCH201)


_NASBENCH201 = SearchSpace.named("nasbench201")
NETWORKS = {
    "darts": Network(Softmax(), 16),
    "gdas": Network(GumbelHard(), 16),
    "pc-darts-sized": Network(Softmax(), 4),  # a quarter of the channels; without the bypass
    "nasbench201, darts": Network(Softmax(), 16, _NASBENCH201),
    "nasbench201, gdas": Network(GumbelHard(), 16, _NASBENCH201),
}


class Times(NamedTuple):
    """Seconds of a step: as usually written, fused with PyTorch's kernels, and fused as it runs."""

    plain: float | None
    library: float | None
    fused: float


class Pair:
    """A search task and its plain counterpart, with the same weights, alphas, noise and batch."""

    def __init__(self, network: Network, layers: int, batch: int, compute: Compute) -> None:
        torch.manual_seed(0)
        self.compute = compute
        self.relaxation = network.relaxation
        self.space, layout = network.space, network.layout(layers)
        self.task = search_task(
            self.relaxation, FirstOrder(), layout, batch, 4 * batch, compute, self.space
        )
        self.task.supernet.train()
        self.plain = plain_net(self.space, self.task.supernet).to(compute.device)
        self.optimizer = SGD().build(self.plain.parameters())
        self.arch_optimizer = Adam().build(self.task.alphas.parameters())
        self.batches = self.task.data.weight_batches.batch(0), self.task.data.arch_batches.batch(0)
        self.noise = torch.Generator().manual_seed(1)

    def times(self, repeats: int, *, second_order: bool) -> dict[str, Times]:
        """Median seconds of each step."""
        sparse = isinstance(self.relaxation, GumbelHard)
        noise, own = self.noise, self.task.noise
        steps: dict[str, Callable[[], object]] = {
            "W": lambda: self.task.step_weights(self.batches[0], 0.5),
            "A, first order": lambda: self.task.arch_step(*self.batches, 0.5),
        }
        calls: dict[str, Callable[[], object]] = {}
        for i, (name, step) in enumerate(steps.items()):
            plain = partial(self.plain_step, self.batches[i], weights=i == 0)
            calls[f"plain {name}"] = seeded(noise, plain)
            if self.has_kernels:
                calls[f"library {name}"] = seeded(own, with_kernels(Kernels.library, step))
            calls[f"fused {name}"] = seeded(own, with_kernels(Kernels.auto, step))
        # Sampled paths differ in cost: more of them, the same for all.
        found = interleaved(
            calls, repeats=4 * repeats if sparse else repeats, device=self.compute.device
        )
        times = {
            name: Times(
                found[f"plain {name}"], found.get(f"library {name}"), found[f"fused {name}"]
            )
            for name in steps
        }
        w, a = times.values()
        library = None if w.library is None or a.library is None else w.library + a.library
        assert w.plain is not None and a.plain is not None
        times["W + A"] = Times(w.plain + a.plain, library, w.fused + a.fused)
        if second_order and not sparse and self.compute.precision is Precision.fp32:
            for name, hypergradient in (
                ("A, unrolled (finite differences)", Unrolled()),
                ("A, unrolled (exact)", UnrolledExact()),
            ):
                times[name] = Times(None, None, self._second_order(hypergradient))
        return times

    @property
    def has_kernels(self) -> bool:
        """Whether C++ kernels take a part here."""
        return self.compute.device.type == "cpu" and native.library() is not None

    def _second_order(self, hypergradient: Hypergradient) -> float:
        layout, batch = self.task.supernet.layout, len(self.batches[0][1])
        task = search_task(
            self.relaxation, hypergradient, layout, batch, 4 * batch, self.compute, self.space
        )
        task.supernet.train()
        call = {"step": lambda: task.arch_step(*self.batches, 0.5)}
        return interleaved(call, repeats=1, device=self.compute.device)["step"]

    def plain_step(self, batch: Batch, *, weights: bool) -> None:
        """As usually written: one backward pass through everything, then one optimiser."""
        images, labels, *_ = batch
        sparse = isinstance(self.relaxation, GumbelHard)
        mixture = self.relaxation(self.task.alphas, progress=0.5, rng=self.noise)
        self.plain.zero_grad()
        self.task.alphas.zero_grad()
        with self.compute.forward_pass():
            ops = {kind: cell.ops for kind, cell in mixture.items()}
            logits = self.plain(images.contiguous(), ops, sparse)
        F.cross_entropy(logits.float(), labels).backward()
        if weights:
            SGD().step(self.optimizer)
        else:
            self.arch_optimizer.step()


def search_task(
    relaxation: Relaxation,
    hypergradient: Hypergradient,
    layout: Layout,
    batch: int,
    num_images: int,
    compute: Compute,
    space: SearchSpace = SPACE,
) -> StageSearch:
    """A search on random images of CIFAR's size."""
    pixels = torch.randint(0, 256, (num_images, 3, 32, 32), dtype=torch.uint8)
    images = ImageSet(pixels, torch.arange(num_images) % 10, tuple("0123456789"))
    images = images.to(compute.device)
    normalize = Normalize(torch.full((3,), 0.5), torch.full((3,), 0.25))
    weights, arch = (
        BatchStream(
            images,
            batch_size=batch,
            augment=Augment(4, True),
            normalize=normalize,
            seed=0,
            name=name,
            channels_last=True,
            ranks=compute.ranks,
        )
        for name in ("weights", "arch")
    )
    method = Method(relaxation, hypergradient, ArgMax(), SGD(), Adam(), Order.arch_first)
    data = SearchData(weights, arch, images, normalize)
    return StageSearch(space, layout, method, data, 1, Running(compute, seed=0))


def seeded(generator: torch.Generator, call: Callable[[], object]) -> Callable[[], object]:
    """The n-th call draws the n-th noise, whoever else has drawn from the generator."""
    seeds = itertools.count()

    def run() -> object:
        generator.manual_seed(next(seeds))
        return call()

    return run


def with_kernels(kernels: Kernels, call: Callable[[], object]) -> Callable[[], object]:
    """The call, computed by these kernels."""

    def run() -> object:
        native.choose(kernels)
        try:
            return call()
        finally:
            native.choose(Kernels.auto)

    return run
