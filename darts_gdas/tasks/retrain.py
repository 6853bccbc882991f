"""Retraining: a genotype's stand-alone network, from scratch on the whole training set."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from darts_gdas.nets import DerivedNet
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.checkpoint import State
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import Batch, BatchStream
from darts_gdas.runtime.finite import FiniteGuard
from darts_gdas.runtime.images import Images
from darts_gdas.runtime.optim import SGD, set_learning_rate
from darts_gdas.runtime.task import Progress
from darts_gdas.tasks.batches import (
    Evaluation,
    batch_loss,
    count_correct,
    evaluate,
    full_precision,
)
from darts_gdas.tasks.confusion import Confusion
from darts_gdas.tasks.model import TrainedModel
from darts_gdas.tasks.weight_step import WeightStep


@dataclass
class Regularization:
    """What keeps the retraining from overfitting, beside weight decay and augmentation.

    Attributes:
        auxiliary_weight: Weight of the auxiliary head's loss; 0 builds no head. Paper: 0.4.
        drop_path: Probability of dropping a path, rising linearly from 0 in the first epoch
            towards this value, which it would reach after the last. Paper: 0.2 on CIFAR-10, 0 on
            ImageNet.
        label_smoothing: Share of the target spread over all classes. Paper: 0 on CIFAR-10, 0.1
            on ImageNet.

    Reference:
        Liu et al., ICLR 2019, section 3.2 and appendix A.
    """

    auxiliary_weight: float = 0.4
    drop_path: float = 0.2
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.auxiliary_weight < math.inf:
            raise ValueError(
                f"regularization.auxiliary_weight must not be negative, got {self.auxiliary_weight}"
            )
        for name in ("drop_path", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"regularization.{name} must lie in [0, 1), got {getattr(self, name)}"
                )


class RetrainTask:
    """Train a derived network and test it after every epoch.

    The result is the last epoch's accuracy, as in the papers. The best epoch is marked and its
    checkpoint kept, but choosing it means choosing by the test set.

    Args:
        net: The network; with an auxiliary head if `regularization` weighs one.
        stream: Training batches.
        test: The held-out images.
        normalize: The normalisation that the stream applies.
        optimizer: Steps the weights.
        regularization: Auxiliary loss, drop-path, label smoothing.
        num_epochs: Epochs over the training set.
        compute: Device, precision, layout in memory.
        guard: What happens where a gradient is not finite, see `WeightStep`.
        accumulate: Parts of a batch that pass one after the other, see `WeightStep`.

    Attributes:
        confusion: The last evaluation, class by class.
    """

    selection_metric = "test/accuracy"
    is_finished = False  # never before its last epoch

    def __init__(
        self,
        net: DerivedNet,
        stream: BatchStream,
        test: Images,
        normalize: Normalize,
        *,
        optimizer: SGD,
        regularization: Regularization,
        num_epochs: int,
        compute: Compute,
        guard: FiniteGuard | None = None,
        accumulate: int = 1,
    ) -> None:
        self.net = compute.place(net)
        self.net.run_cell = compute.compiled(net.run_cell)
        self.stream = stream
        self.test = test
        self.normalize = normalize
        self.sgd = optimizer
        self.regularization = regularization
        self.num_epochs = num_epochs
        self.steps_per_epoch = stream.batches_per_epoch
        self.compute = compute
        self.confusion: Confusion | None = None
        self.weight_step = WeightStep(self.net, optimizer, compute, guard, accumulate)

    def train_step(self, progress: Progress) -> dict[str, tuple[Tensor, int]]:
        """One step of SGD on the loss with its auxiliary part."""
        batch = self.stream.batch(progress.global_step)
        set_learning_rate(self.weight_step.optimizer, self._learning_rate(progress))
        self.net.train()
        self.net.drop_path_probability = self._drop_path(progress)
        sums: list[Tensor] = []

        def run(part: Batch, more: bool) -> tuple[Tensor, Tensor]:
            with self.compute.forward_pass():
                outputs = self.weight_step.replica(part.images, sparse=more)
            logits, auxiliary = outputs if isinstance(outputs, tuple) else (outputs, None)
            loss = self._loss(logits, part)
            sums.append(loss.detach() * len(part.labels))
            if auxiliary is not None:
                weight = self.regularization.auxiliary_weight
                loss = loss + weight * self._loss(auxiliary, part)
            return loss, logits

        logits = self.weight_step(batch, run)
        count = len(batch.labels) if batch.counts else 0
        return {
            "train/loss": (torch.stack(sums).sum() * batch.counts, count),
            "train/accuracy": (count_correct(logits[:count], batch.labels[:count]), count),
        }

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        smoothing = self.regularization.label_smoothing
        return batch_loss(full_precision(logits), batch, label_smoothing=smoothing)

    def _drop_path(self, progress: Progress) -> float:
        return self.regularization.drop_path * progress.epoch / progress.num_epochs

    def _learning_rate(self, progress: Progress) -> float:
        assert self.sgd.rate is not None
        rate, epoch = self.sgd.rate, progress.epoch
        return self.sgd.rate_at(rate, epoch=epoch, num_epochs=progress.num_epochs)

    def evaluate(self, progress: Progress) -> dict[str, float]:
        """Loss and accuracies on the test split."""
        found = evaluate_net(self.net, self.test, self.normalize, self.compute)
        self.confusion = found.confusion
        return {
            **{f"test/{name}": value for name, value in found.metrics.items()},
            "train/learning_rate": self._learning_rate(progress),
            "train/drop_path": self._drop_path(progress),
        }

    def shared(self) -> list[Tensor]:
        """What must be the same on all ranks: the weights."""
        return list(self.net.parameters())

    @property
    def data_digest(self) -> str:
        """Tells one data set from another."""
        return f"{self.stream.images.digest()} {self.test.digest()}"

    def model(self) -> TrainedModel:
        """The network as it is now, with what is needed to use it."""
        return TrainedModel(
            self.net.eval(), self.normalize, self.test.classes, self.test.image_size
        )

    def state_dict(self) -> State:
        """Weights and optimiser; data order follows from the step."""
        return {"net": self.net.state_dict(), "weight_step": self.weight_step.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Inverse of `state_dict`."""
        self.net.load_state_dict(state["net"])
        self.weight_step.load_state_dict(state["weight_step"])


def evaluate_net(
    net: DerivedNet, images: Images, normalize: Normalize, compute: Compute
) -> Evaluation:
    """What a network does on a data set."""
    return evaluate(net.eval(), images, normalize=normalize, batch_size=256, compute=compute)
