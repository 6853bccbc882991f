"""What a search consists of, beside its networks: method, stages, the two halves of the data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.data import BatchStream
from darts_gdas.runtime.images import Images
from darts_gdas.runtime.optim import SGD, Adam
from darts_gdas.search import Discretizer, Hypergradient, Penalty, Perturbation, Relaxation
from darts_gdas.search.operation_stop import OperationStop

DECAY = 0.2
"""How fast the dropout behind skip connections falls, per epoch; of P-DARTS's code."""


class Order(Enum):
    """Which of the two steps comes first: DARTS takes arch_first, GDAS weights_first.

    `weights_only` takes no arch step: the alphas stay as they begin, and a selection asks the
    trained weights.
    """

    arch_first = "arch_first"
    weights_first = "weights_first"
    weights_only = "weights_only"


@dataclass(frozen=True)
class Method:
    """A differentiable search method, as the composition it is.

    Attributes:
        relaxation: Alphas to mixture.
        hypergradient: Gradient of the validation loss in the mixture.
        discretizer: Final mixture to genotype.
        optimizer: Steps the weights.
        arch_optimizer: Steps the alphas.
        order: Which step comes first.
        penalties: Added to the validation loss in the arch step, by name.
        perturbation: What the weight step does to its mixture; None leaves it.
        partial_channels: K: 1 / K of the channels runs through the candidates; see `nets.partial`.
        edge_normalization: Weigh the edges into a node against each other; see `ArchParameters`.
        arch_warmup_epochs: Epochs at the beginning in which the alphas stand still and the weights
            alone learn.
    """

    relaxation: Relaxation
    hypergradient: Hypergradient
    discretizer: Discretizer
    optimizer: SGD
    arch_optimizer: Adam
    order: Order
    penalties: Mapping[str, Penalty] = field(default_factory=dict)
    perturbation: Perturbation | None = None
    partial_channels: int = 1
    edge_normalization: bool = False
    arch_warmup_epochs: int = 0
    operation_stop: OperationStop = field(default_factory=OperationStop)

    def steps_alphas(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, takes arch steps."""
        return self.order is not Order.weights_only and epoch >= self.arch_warmup_epochs


@dataclass
class Stage:
    """What is different in one stage of a progressive search.

    Not frozen, because `stages.0.epochs=5` on the command line changes one.

    Attributes:
        epochs: Passes over the weights' half.
        candidates: At most how many stay on each edge; null keeps all. The first stage has all.
        layers: Cells of its network; null is `net.layers`.
        channels: Channels of its first cells; null is `net.channels`.
        partial_channels: K: 1 / K of the channels runs through the candidates.
        arch_warmup_epochs: Epochs at its beginning in which the alphas stand still.
        skip_dropout: Dropout behind skip connections at its beginning, in [0, 1).
    """

    epochs: int
    candidates: int | None = None
    layers: int | None = None
    channels: int | None = None
    partial_channels: int = 1
    arch_warmup_epochs: int = 0
    skip_dropout: float = 0.0

    @property
    def network(self) -> dict[str, int]:
        """What its outer network has in place of the search's."""
        sizes = {"layers": self.layers, "channels": self.channels}
        return {name: size for name, size in sizes.items() if size is not None}

    def dropout_rate(self, epoch: int) -> float:
        """Dropout behind skip connections in an epoch of this stage, counted from 0.

        It falls linearly while the weights learn alone. When the alphas begin to move it begins
        anew, and falls exponentially. The paper says that it decays; this is how its authors' code
        does it.

        Example:
            >>> stage = Stage(epochs=25, arch_warmup_epochs=10, skip_dropout=0.5)
            >>> [round(stage.dropout_rate(epoch), 3) for epoch in (0, 9, 10, 24)]
            [0.48, 0.3, 0.5, 0.03]
        """
        if epoch < self.arch_warmup_epochs:
            return self.skip_dropout * (self.epochs - epoch - 1) / self.epochs
        return self.skip_dropout * math.exp(-DECAY * (epoch - self.arch_warmup_epochs))


@dataclass(frozen=True)
class SearchData:
    """The two halves of the training set.

    Attributes:
        weight_batches: Batches for the weight steps; their number makes the epoch.
        arch_batches: Batches for the arch steps, an endless stream of its own epochs.
        validation: The arch half without augmentation, to evaluate on.
        normalize: The normalisation that the streams apply.
    """

    weight_batches: BatchStream
    arch_batches: BatchStream
    validation: Images
    normalize: Normalize

    @property
    def digest(self) -> str:
        """Tells one data set from another."""
        return f"{self.weight_batches.images.digest()} {self.arch_batches.images.digest()}"
