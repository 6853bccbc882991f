"""One stage of a search: alternating steps on weights and alphas over two halves of the data."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from darts_gdas.nets import Layout, Mixture, SuperNet
from darts_gdas.nets.mixture import is_sparse
from darts_gdas.report.view import SearchView, in_columns
from darts_gdas.runtime.checkpoint import State
from darts_gdas.runtime.data import Batch, derive_seed
from darts_gdas.runtime.distributed import ALONE
from darts_gdas.runtime.optim import set_learning_rate
from darts_gdas.runtime.task import Progress
from darts_gdas.search import ArchParameters, entropy, skip_share
from darts_gdas.space import Genotype, SearchSpace
from darts_gdas.tasks.arch_step import ArchStep
from darts_gdas.tasks.batches import batch_loss, batch_metrics, evaluate, full_precision
from darts_gdas.tasks.confusion import Confusion
from darts_gdas.tasks.method import Method, Order, SearchData
from darts_gdas.tasks.monitor import Monitor
from darts_gdas.tasks.operation_watch import OperationWatch
from darts_gdas.tasks.probing import SupernetProbe
from darts_gdas.tasks.remedies import remedies
from darts_gdas.tasks.running import Running
from darts_gdas.tasks.weight_step import WeightStep, split


class StageSearch:
    """A supernet, its alphas, and the steps of both, from new ones to what they end with.

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
        running: How it is run.

    Attributes:
        learning_rate: Initial rate of the weights; 0 where it is still to be measured
            (`tasks/initial.py`).
        confusion: The last evaluation, class by class.
        watch: Stops operations on the way; None where nothing is to stop.
    """

    def __init__(
        self,
        space: SearchSpace,
        layout: Layout,
        method: Method,
        data: SearchData,
        num_epochs: int,
        running: Running,
    ) -> None:
        self.space = space
        self.method = method
        self.data = data
        self.num_epochs = num_epochs
        self.steps_per_epoch = data.weight_batches.batches_per_epoch
        self.seed, self.compute = running.seed, running.compute
        self.supernet = running.supernet(space, layout, partial_channels=method.partial_channels)
        initial = torch.Generator().manual_seed(derive_seed(self.seed, "alphas"))
        self.alphas = ArchParameters(
            space, generator=initial, edge_normalization=method.edge_normalization
        ).to(self.compute.device)
        self.noise = torch.Generator().manual_seed(derive_seed(self.seed, "noise"))
        self.weight_step = WeightStep(
            self.supernet, method.optimizer, self.compute, running.guard, running.accumulate
        )
        self.watch: OperationWatch | None = None
        if method.operation_stop.watches:
            optimizer = self.weight_step.optimizer
            self.watch = OperationWatch(self.supernet, optimizer, method.operation_stop)
        self.learning_rate = method.optimizer.rate or 0.0
        self.arch_step = ArchStep(
            self.supernet, self.alphas, method, self.weight_step, self.compute, self.noise
        )
        by_itself = replace(self.compute, ranks=ALONE)  # what is measured, the first rank measures
        self.probe = SupernetProbe(self.supernet, self.arch_step.norms, data, by_itself, self.seed)
        self.monitor = Monitor(
            running.diagnostics,
            space,
            self.probe,
            num_epochs=num_epochs,
            learns=method.order is not Order.weights_only,
            arch_warmup_epochs=method.arch_warmup_epochs,
            remedies=remedies(method, space, stop_below=running.diagnostics.stop_below),
        )
        self.confusion: Confusion | None = None
        kept = {name: penalty.state() for name, penalty in method.penalties.items()}
        # A checkpoint holds them: measured costs would differ if measured again.
        self._costs = nn.ModuleDict({name: s for name, s in kept.items() if s is not None})

    def train_step(self, progress: Progress) -> dict[str, tuple[Tensor, int]]:
        """One step of each level, in the method's order.

        Returns:
            Loss and accuracy on each half's batch from before its step, and penalties, as sums.
        """
        train = self.data.weight_batches.batch(progress.global_step)
        set_learning_rate(self.weight_step.optimizer, self._learning_rate(progress))
        if not self.supernet.training:  # walks thousands of modules
            self.supernet.train()
        if not self.method.steps_alphas(progress.epoch):
            return self.step_weights(train, progress.annealed)
        validation = self.data.arch_batches.batch(progress.global_step)
        if self.method.order is Order.weights_first:
            metrics = self.step_weights(train, progress.annealed, validation)
            return metrics | self.arch_step(train, validation, progress.annealed)
        metrics = self.arch_step(train, validation, progress.annealed)
        return metrics | self.step_weights(train, progress.annealed, validation)

    def step_weights(
        self, train: Batch, annealed: float, validation: Batch | None = None
    ) -> dict[str, tuple[Tensor, int]]:
        """Step the weights under a fresh mixture; the alphas stay as they are.

        Args:
            train: What is learnt.
            annealed: Progress of annealing, in [0, 1].
            validation: What a watch compares gradients with; None compares nothing.
        """
        mixture = self.method.relaxation(self.alphas, progress=annealed, rng=self.noise).detach()
        if self.method.perturbation is not None:
            loss = self.arch_step.loss(train).at_rest
            mixture = self.method.perturbation(mixture, loss, progress=annealed, rng=self.noise)
        if self.watch is not None and validation is not None:
            parts = split(validation, self.weight_step.accumulate)
            losses = [partial(self.arch_step.loss(part), mixture=mixture) for part in parts]
            self.watch.look(losses, self.arch_step.named_weights)
        return batch_metrics("train", self.train_weights(train, mixture), train)

    def train_weights(self, batch: Batch, mixture: Mixture) -> Tensor:
        """Step the weights once under a mixture; returns the logits from before the step."""

        def run(part: Batch, more: bool) -> tuple[Tensor, Tensor]:
            with self.compute.forward_pass():
                # What has stopped has no gradient either.
                sparse = more or is_sparse(mixture) or self.watch is not None
                logits = self.weight_step.replica(part.images, mixture, sparse=sparse)
            logits = full_precision(logits)
            return batch_loss(logits, part), logits

        return self.weight_step(batch, run)

    def pass_on_shapes(self, supernet: SuperNet, images: Tensor, mark: Callable[[], None]) -> None:
        """A pass of a step, on the "meta" device, to count what it keeps (`nets.costs.Pass`)."""
        with torch.no_grad():
            mixture = self.method.relaxation(self.alphas, progress=0.0, rng=None)
        supernet(images, mixture.with_leaves([leaf.to("meta") for leaf in mixture.leaves()]))
        mark()

    def _learning_rate(self, progress: Progress) -> float:
        return self.method.optimizer.rate_at(
            self.learning_rate, epoch=progress.epoch, num_epochs=progress.num_epochs
        )

    def expected(self) -> Mixture:
        """What the alphas stand for now, without noise."""
        return self.method.relaxation.expected(self.alphas)

    def genotype(self) -> Genotype:
        """The cell that the alphas stand for now."""
        return self._derived(self.expected())

    def _derived(self, expected: Mixture) -> Genotype:
        found = self.method.discretizer(expected, self.space)
        for penalty in self.method.penalties.values():
            found = penalty.admitted(found, expected)
        return found

    def evaluate(self, progress: Progress) -> dict[str, float]:
        """The most likely mixture on the arch half, and the state of the alphas."""
        self.supernet.eval()
        relaxation = self.method.relaxation
        with torch.no_grad():
            mixture = relaxation(self.alphas, progress=progress.annealed, rng=None).detach()
        validation = evaluate(
            lambda images: self.supernet(images, mixture),
            self.data.validation,
            normalize=self.data.normalize,
            batch_size=2 * self.data.weight_batches.batch_size,
            compute=self.compute,
        )
        self.confusion = validation.confusion
        metrics = {f"validation/{name}": value for name, value in validation.metrics.items()}
        expected = self.expected()
        for kind, cell in expected.items():
            metrics[f"entropy/{kind}"] = entropy(cell.ops)
        genotype = self._derived(expected)
        metrics["search/skip_share"] = skip_share(genotype)
        metrics["search/learning_rate"] = self._learning_rate(progress)
        for name, value in relaxation.settings(progress.annealed).items():
            metrics[f"search/{name}"] = value
        for penalty in self.method.penalties.values():
            metrics |= penalty.curves(expected)
        if self.method.perturbation is not None:
            for name, value in self.method.perturbation.settings(progress.annealed).items():
                metrics[f"search/{name}"] = value
        if self.watch is not None:
            metrics |= self.watch.metrics()
        return metrics | self._observe(progress.epoch, genotype)

    def _observe(self, epoch: int, genotype: Genotype) -> dict[str, float]:
        """The first rank's diagnostics, and what follows from them, on all ranks."""

        def observed() -> tuple[dict[str, float], State]:
            metrics = self.monitor.observe(epoch, self.alphas, self.method.relaxation, genotype)
            return metrics, self.monitor.state_dict()

        metrics, state = self.compute.ranks.from_first(observed)
        if not self.compute.ranks.is_first:
            self.monitor.load_state_dict(state)
        return metrics

    def view(self, genotype: Genotype, whole: SearchSpace) -> SearchView:
        """What there is to see now.

        Args:
            genotype: The cell that the search would return.
            whole: The space that this stage's was restricted from, in whose columns values stand.
        """
        expected = self.expected()
        operations = {kind: cell.ops.cpu().numpy() for kind, cell in expected.items()}
        edges = {
            k: cell.edges.cpu().numpy() for k, cell in expected.items() if cell.edges is not None
        }
        logits = {kind: rows.detach().cpu().numpy() for kind, rows in self.alphas.logits.items()}
        return SearchView(
            whole,
            in_columns(operations, self.space, whole, blank=0.0),
            genotype,
            edges,
            in_columns(logits, self.space, whole, blank=np.nan),
        )

    def state_dict(self) -> State:
        """Weights, alphas, optimisers, noise, measured costs; data order follows from the step."""
        watch = {} if self.watch is None else {"watch": self.watch.state_dict()}
        return watch | {
            "supernet": self.supernet.state_dict(),
            "arch": self.alphas.state_dict(),
            "weight_step": self.weight_step.state_dict(),
            "arch_optimizer": self.arch_step.optimizer.state_dict(),
            "noise": self.noise.get_state(),
            "learning_rate": self.learning_rate,
            "monitor": self.monitor.state_dict(),
            "costs": self._costs.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Inverse of `state_dict`."""
        self.supernet.load_state_dict(state["supernet"])
        self.alphas.load_state_dict(state["arch"])
        self.weight_step.load_state_dict(state["weight_step"])
        self.arch_step.optimizer.load_state_dict(state["arch_optimizer"])
        self.noise.set_state(state["noise"])
        self.learning_rate = state["learning_rate"]
        self.monitor.load_state_dict(state["monitor"])
        self._costs.load_state_dict(state["costs"])
        if self.watch is not None:
            self.watch.load_state_dict(state["watch"])
