"""The search: alternating steps on weights and architecture over two halves of the data."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_gdas.nets import Layout, Mixture, SuperNet
from darts_gdas.nets.mixture import is_sparse
from darts_gdas.nets.synced import synchronize_norms
from darts_gdas.report.tensorboard import SearchView
from darts_gdas.runtime.checkpoint import State
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import Batch, derive_seed
from darts_gdas.runtime.distributed import ALONE
from darts_gdas.runtime.finite import FiniteGuard
from darts_gdas.runtime.optim import set_learning_rate
from darts_gdas.runtime.task import Progress
from darts_gdas.scoring.table import AccuracyTable
from darts_gdas.search import ArchParameters, entropy, skip_share
from darts_gdas.search.hypergradient import detached
from darts_gdas.space import Genotype, SearchSpace
from darts_gdas.tasks.arch_step import ArchStep
from darts_gdas.tasks.batches import batch_metrics, evaluate, full_precision
from darts_gdas.tasks.method import Method, Order, SearchData
from darts_gdas.tasks.monitor import Diagnostics, Monitor
from darts_gdas.tasks.pressure import costs, curves
from darts_gdas.tasks.probing import SupernetProbe
from darts_gdas.tasks.weight_step import WeightStep


class SearchTask:
    """Search for a genotype with a given method.

    Every step draws a fresh mixture for each of its two halves. The weight step trains the
    supernet under the detached mixture; the arch step asks the hypergradient for a gradient at
    the mixture, pulls it back to the alphas and steps them.

    Candidates that a sparse mixture leaves out get no gradient in that step and stand still:
    neither momentum nor weight decay moves them.

    Args:
        space: The cells to search.
        layout: The supernet around them.
        method: What to do.
        data: The two halves.
        num_epochs: Epochs over the weights' half.
        compute: Device, precision, layout in memory.
        seed: Of the alphas and the noise; torch's global seed makes the weights.
        diagnostics: What to measure along the way, and when to stop early.
        checkpoint_cells: Compute each cell again in the backward pass, see `SuperNet`.
        sync_batch_norm: Norms over the images of all ranks, see `SyncedBatchNorm`.
        guard: What happens where a gradient is not finite, see `WeightStep`.
        accumulate: Parts of a batch that pass one after the other, see `WeightStep`.
        known: What cells of the space reach; evaluation then says what the present one does.

    Attributes:
        learning_rate: Initial rate of the weights; 0 where it is still to be measured
            (`tasks/learning_rate.py`).
    """

    selection_metric = "validation/accuracy"

    def __init__(
        self,
        space: SearchSpace,
        layout: Layout,
        method: Method,
        data: SearchData,
        *,
        num_epochs: int,
        compute: Compute,
        seed: int,
        diagnostics: Diagnostics | None = None,
        checkpoint_cells: bool = False,
        sync_batch_norm: bool = False,
        guard: FiniteGuard | None = None,
        accumulate: int = 1,
        known: AccuracyTable | None = None,
    ) -> None:
        self.known = known
        self.method = method
        self.data = data
        self.seed = seed
        self.compute = compute
        self.num_epochs = num_epochs
        self.steps_per_epoch = data.weights.batches_per_epoch
        supernet = SuperNet(
            space,
            layout,
            checkpoint_cells=checkpoint_cells,
            partial_channels=method.partial_channels,
        )
        if sync_batch_norm and compute.ranks.size > 1:
            synchronize_norms(supernet)
        self.supernet = compute.place(supernet)
        self.supernet.run_cell = compute.compiled(self.supernet.run_cell)
        initial = torch.Generator().manual_seed(derive_seed(seed, "alphas"))
        self.arch = ArchParameters(
            space, generator=initial, edge_normalization=method.edge_normalization
        ).to(compute.device)
        self.noise = torch.Generator().manual_seed(derive_seed(seed, "noise"))
        self.weights = WeightStep(self.supernet, method.optimizer, compute, guard, accumulate)
        self.optimizer = self.weights.optimizer
        self.learning_rate = method.optimizer.rate or 0.0
        self.alphas = ArchStep(self.supernet, self.arch, method, self.weights, compute)
        self.arch_optimizer = self.alphas.optimizer
        by_itself = replace(compute, ranks=ALONE)  # what is measured, the first rank measures
        self.probe = SupernetProbe(self.supernet, self.alphas.norms, data, by_itself, seed)
        self.monitor = Monitor(
            diagnostics or Diagnostics(),
            space,
            self.probe,
            num_epochs=num_epochs,
            learns=method.order is not Order.weights_only,
        )
        self._costs = costs(method)

    @property
    def space(self) -> SearchSpace:
        """The cells being searched."""
        return self.supernet.space

    @property
    def is_finished(self) -> bool:
        """Whether the diagnostics have ended the search."""
        return self.monitor.stopped_after is not None

    def train_step(self, progress: Progress) -> dict[str, tuple[Tensor, int]]:
        """One step of each level, in the method's order."""
        step = progress.global_step
        batches = self.data.weights.batch(step), self.data.arch.batch(step)
        set_learning_rate(self.optimizer, self._learning_rate(progress))
        if not self.supernet.training:  # walks thousands of modules
            self.supernet.train()
        steps: list[Callable[[Batch, Batch, float], dict[str, tuple[Tensor, int]]]]
        steps = [self.weight_step]
        if self.method.steps_alphas(progress.epoch):
            steps.insert(self.method.order is Order.weights_first, self.arch_step)
        metrics = {}
        for take_step in steps:
            metrics |= take_step(*batches, progress.annealed)
        return metrics

    def arch_step(
        self, train: Batch, validation: Batch, annealed: float
    ) -> dict[str, tuple[Tensor, int]]:
        """Step the alphas; weights and running statistics stay as they are.

        Args:
            train: For the hypergradients in which the weights answer.
            validation: What the alphas are to do well on.
            annealed: Progress of annealing, in [0, 1].

        Returns:
            Loss and accuracy on the validation batch, and penalties, as sums.
        """
        mixture = self.method.relaxation(self.arch, progress=annealed, rng=self.noise)
        return self.alphas(mixture, (train, validation), annealed)

    def weight_step(
        self, train: Batch, validation: Batch, annealed: float
    ) -> dict[str, tuple[Tensor, int]]:
        """Step the weights under a fresh mixture; the alphas stay as they are.

        Args:
            train: The batch to learn.
            validation: Unused; both steps take both batches.
            annealed: Progress of annealing, in [0, 1].

        Returns:
            Loss and accuracy on the training batch, as sums.
        """
        mixture = self.method.relaxation(self.arch, progress=annealed, rng=self.noise).detach()
        if self.method.perturbation is not None:
            loss = partial(self.alphas.loss(train), detached(self.alphas.named_weights))
            mixture = self.method.perturbation(mixture, loss, progress=annealed, rng=self.noise)
        return batch_metrics("train", self.train_weights(train, mixture), train.labels)

    def train_weights(self, batch: Batch, mixture: Mixture) -> Tensor:
        """Step the weights once under a mixture; returns the logits from before the step."""

        def run(part: Batch, more: bool) -> tuple[Tensor, Tensor]:
            with self.compute.forward_pass():
                sparse = more or is_sparse(mixture)
                logits = self.weights.replica(part.images, mixture, sparse=sparse)
            logits = full_precision(logits)
            return F.cross_entropy(logits, part.labels), logits

        return self.weights(batch, run)

    def _learning_rate(self, progress: Progress) -> float:
        return self.method.optimizer.rate_at(
            self.learning_rate, epoch=progress.epoch, num_epochs=progress.num_epochs
        )

    def evaluate(self, progress: Progress) -> dict[str, float]:
        """The most likely mixture on the arch half, and the state of the alphas."""
        self.supernet.eval()
        relaxation = self.method.relaxation
        with torch.no_grad():
            mixture = relaxation(self.arch, progress=progress.annealed, rng=None).detach()
        validation = evaluate(
            lambda images: self.supernet(images, mixture),
            self.data.validation,
            normalize=self.data.normalize,
            batch_size=2 * self.data.weights.batch_size,
            compute=self.compute,
        )
        metrics = {f"validation/{name}": value for name, value in validation.items()}
        for kind, cell in relaxation.expected(self.arch).items():
            metrics[f"entropy/{kind}"] = entropy(cell.ops)
        genotype = self.genotype()
        metrics["search/skip_share"] = skip_share(genotype)
        if self.known is not None:
            standing = self.known.standing(genotype)
            metrics |= {f"benchmark/{name}": value for name, value in standing.items()}
        metrics["search/learning_rate"] = self._learning_rate(progress)
        for name, value in relaxation.settings(progress.annealed).items():
            metrics[f"search/{name}"] = value
        metrics |= curves(self.method, self.arch, progress.annealed)
        return metrics | self._observe(progress.epoch, genotype)

    def _observe(self, epoch: int, genotype: Genotype) -> dict[str, float]:
        """The first rank's diagnostics, and what follows from them, on all ranks."""

        def observed() -> tuple[dict[str, float], State]:
            metrics = self.monitor.observe(epoch, self.arch, self.method.relaxation, genotype)
            return metrics, self.monitor.state_dict()

        metrics, state = self.compute.ranks.from_first(observed)
        if not self.compute.ranks.is_first:
            self.monitor.load_state_dict(state)
        return metrics

    def shared(self) -> list[Tensor]:
        """What must be the same on all ranks: the alphas."""
        return list(self.arch.parameters())

    @property
    def data_digest(self) -> str:
        """Tells one data set from another."""
        return f"{self.data.weights.images.digest()} {self.data.arch.images.digest()}"

    def genotype(self) -> Genotype:
        """What the alphas stand for now, or what was chosen in their place."""
        if self.monitor.chosen is not None:
            return self.monitor.chosen
        return self.method.discretizer(self.method.relaxation.expected(self.arch), self.space)

    def view(self) -> SearchView:
        """What there is to see now."""
        expected = self.method.relaxation.expected(self.arch)
        probabilities = {kind: cell.ops.cpu().numpy() for kind, cell in expected.items()}
        edges = {
            kind: cell.edges.cpu().numpy()
            for kind, cell in expected.items()
            if cell.edges is not None
        }
        alphas = {
            kind: logits.detach().masked_fill(self.arch.get_buffer(f"absent_{kind}"), torch.nan)
            for kind, logits in self.arch.logits.items()
        }
        values = {kind: logits.cpu().numpy() for kind, logits in alphas.items()}
        return SearchView(self.space, probabilities, self.genotype(), edges, values)

    def state_dict(self) -> State:
        """Weights, alphas, optimisers, noise, measured costs; data order follows from the step."""
        return {
            "supernet": self.supernet.state_dict(),
            "arch": self.arch.state_dict(),
            "weight_step": self.weights.state_dict(),
            "arch_optimizer": self.arch_optimizer.state_dict(),
            "noise": self.noise.get_state(),
            "learning_rate": self.learning_rate,
            "monitor": self.monitor.state_dict(),
            "costs": self._costs.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Inverse of `state_dict`."""
        self.supernet.load_state_dict(state["supernet"])
        self.arch.load_state_dict(state["arch"])
        self.weights.load_state_dict(state["weight_step"])
        self.arch_optimizer.load_state_dict(state["arch_optimizer"])
        self.noise.set_state(state["noise"])
        self.learning_rate = state["learning_rate"]
        self.monitor.load_state_dict(state["monitor"])
        self._costs.load_state_dict(state["costs"])
