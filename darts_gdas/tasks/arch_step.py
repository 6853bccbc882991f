"""A step of the alphas: hypergradient and penalties pulled back, by itself or over ranks."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from darts_gdas.nets import Mixture, SuperNet
from darts_gdas.nets.statistics import tracked_modules
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import Batch
from darts_gdas.runtime.optim import gradient_norm
from darts_gdas.search import ArchParameters, Bilevel, SGDStep
from darts_gdas.search.hypergradient import Weights
from darts_gdas.tasks.batches import BatchLoss, batch_metrics
from darts_gdas.tasks.method import Method
from darts_gdas.tasks.weight_step import WeightStep, split


class ArchStep:
    """Adam on the alphas. Weights and running statistics stay as they are.

    Args:
        supernet: On its device.
        alphas: What is stepped.
        method: How.
        weight_step: The step that an unrolled hypergradient looks ahead to; its cut of batches,
            its scale and its guard are used here too.
        compute: Device, precision, ranks.
        noise: The mixtures are drawn from it.

    Attributes:
        optimizer: Steps the alphas.
        named_weights: The supernet's weights by name.
        norms: The supernet's norms that keep running statistics.
        cells: How many cells of each kind the supernet has.
    """

    def __init__(
        self,
        supernet: SuperNet,
        alphas: ArchParameters,
        method: Method,
        weight_step: WeightStep,
        compute: Compute,
        noise: torch.Generator,
    ) -> None:
        self.supernet = supernet
        self.alphas = alphas
        self.method = method
        self.weight_step = weight_step
        self.compute = compute
        self.noise = noise
        self.optimizer = method.arch_optimizer.build(alphas.parameters())
        # Kept, because walking all modules in every step is slow.
        self.named_weights: Weights = dict(supernet.named_parameters())
        self.norms = tracked_modules(supernet)
        self.cells = Counter(supernet.layout.kinds)

    def __call__(
        self, train: Batch, validation: Batch, annealed: float
    ) -> dict[str, tuple[Tensor, int]]:
        """One step under a fresh mixture.

        Args:
            train: For the hypergradients in which the weights answer.
            validation: What the alphas are to do well on.
            annealed: Progress of annealing, in [0, 1].

        Returns:
            Loss and accuracy on the validation batch, and penalties, as sums.
        """
        mixture = self.method.relaxation(self.alphas, progress=annealed, rng=self.noise)
        losses = [self.loss(part) for part in split(validation, self.weight_step.accumulate)]
        parts = [self._gradient(mixture.detach(), train, loss) for loss in losses]
        gradient = [torch.stack(terms).sum(0) for terms in zip(*parts, strict=True)]
        penalties = self._penalties(annealed)
        self.optimizer.zero_grad()
        torch.autograd.backward(
            [*mixture.leaves(), *penalties.values()],
            [*gradient, *map(torch.ones_like, penalties.values())],
        )
        self._step_alphas(lambda: torch.stack([loss.value() for loss in losses]).mean())
        values = {f"penalty/{name}": (value.detach(), 1) for name, value in penalties.items()}
        logits = torch.cat([loss.logits for loss in losses if loss.logits is not None])
        return batch_metrics("arch", logits, validation) | values

    def _penalties(self, annealed: float) -> dict[str, Tensor]:
        """Each penalty's value by name, differentiable in the alphas; none, no work."""
        if not self.method.penalties:
            return {}
        mean = self.method.relaxation.mean(self.alphas)
        chosen = self.method.penalties.items()
        return {name: p(self.alphas, mean, progress=annealed) for name, p in chosen}

    def loss(self, batch: Batch) -> BatchLoss:
        """The loss on a batch of either half, as a function of weights and mixture."""
        scale = self.weight_step.scale
        weights = self.named_weights.values()
        return BatchLoss(self.supernet, self.norms, batch, self.compute, weights, scale)

    def _gradient(self, mixture: Mixture, train: Batch, loss: BatchLoss) -> list[Tensor]:
        """The hypergradient of a part of the validation loss, leaf by leaf."""
        problem = Bilevel(
            train_loss=self.loss(train),
            validation_loss=loss,
            weights=self.named_weights,
            mixture=mixture,
            inner_step=self.inner_step,
            cells=self.cells,
            standing_loss=loss.at_rest,
        )
        return self.method.hypergradient(problem).leaves()

    def _step_alphas(self, loss: Callable[[], Tensor]) -> None:
        norm = gradient_norm(self.alphas.parameters())
        if self.weight_step.overflows(norm):
            self.weight_step.halve_scale()
            return

        def gradients() -> dict[str, Tensor | None]:
            return {name: logits.grad for name, logits in self.alphas.named_parameters()}

        if self.weight_step.guard.passes("arch step", norm, loss=loss, gradients=gradients):
            self.optimizer.step()

    def inner_step(self) -> SGDStep:
        """The next weight step as a function; unclipped, as in Liu et al."""
        state = self.weight_step.optimizer.state
        buffers = {
            name: state[weight]["momentum_buffer"]
            for name, weight in self.named_weights.items()
            if weight in state and state[weight].get("momentum_buffer") is not None
        }
        group = self.weight_step.optimizer.param_groups[0]
        return SGDStep(
            lr=group["lr"],
            momentum=group["momentum"],
            nesterov=group["nesterov"],
            weight_decay=group["weight_decay"],
            buffers=buffers,
        )
