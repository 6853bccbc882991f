"""What a search consists of, beside its networks: the method and the two halves of the data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.data import BatchStream
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.optim import SGD, Adam
from darts_gdas.search import Discretizer, Hypergradient, Penalty, Perturbation, Relaxation


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
        optimizer: Of the weights.
        arch_optimizer: Of the alphas.
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

    def steps_alphas(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, takes arch steps."""
        return self.order is not Order.weights_only and epoch >= self.arch_warmup_epochs


@dataclass(frozen=True)
class SearchData:
    """The two halves of the training set.

    Attributes:
        weights: Batches for the weight steps; their number makes the epoch.
        arch: Batches for the arch steps, an endless stream of its own epochs.
        validation: The arch half without augmentation, to evaluate on.
        normalize: The normalisation that the streams apply.
    """

    weights: BatchStream
    arch: BatchStream
    validation: ImageSet
    normalize: Normalize
