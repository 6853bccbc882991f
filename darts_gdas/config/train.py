"""The configuration of a retraining."""

from dataclasses import dataclass, field
from typing import Any

import torch

from darts_gdas.config.network import NetConfig
from darts_gdas.config.objective import OF_TRAINING, names_of
from darts_gdas.config.run import RunConfig
from darts_gdas.config.stem import tell_memory
from darts_gdas.nets import DerivedNet
from darts_gdas.nets.costs import whole
from darts_gdas.nets.operations import check_operations
from darts_gdas.nets.synced import synchronize_norms
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.dataset import needing_size
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.look import loaded
from darts_gdas.space import Genotype
from darts_gdas.tasks.retrain import Regularization, RetrainTask


@dataclass
class TrainConfig(RunConfig):
    """Everything a retraining depends on; the defaults are the DARTS paper's for CIFAR-10.

    Attributes:
        genotype: A published name, a NAS-Bench-201 string, a `genotype.json`, or a search's run
            folder; null takes the newest finished search below `outputs`/search.
    """

    genotype: str | None = None
    net: NetConfig = field(default_factory=lambda: NetConfig(channels=36, layers=20))
    regularization: Regularization = field(default_factory=Regularization)
    epochs: int = 600
    batch_size: int = 96
    objective: Any = "accuracy"

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        names_of(self.objective, OF_TRAINING)
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if self.optimizer.rate is None:
            raise ValueError("optimizer.lr=auto is for searches; a retraining needs a number")

    def build(self, genotype: Genotype, ranks: Ranks = ALONE) -> RetrainTask:
        """Load the data, check that it fits, build the network."""
        compute = self.compute(ranks)
        torch.manual_seed(self.seed)
        check_operations(genotype.operations, "the genotype")
        train, test = loaded(self.dataset)
        layout = self.net.layout(
            genotype,
            num_classes=train.num_classes,
            in_channels=train.in_channels,
            image_size=train.image_size,
        )
        with needing_size(self.dataset):
            layout.check_image_size(*train.image_size)
        auxiliary = self.regularization.auxiliary_weight > 0
        normalize = Normalize(*train.statistics())
        train, test = train.to(compute.device), test.to(compute.device)
        net = DerivedNet(genotype, layout, auxiliary=auxiliary)
        self.net.initialize(net)
        shape = (train.in_channels, *train.image_size)
        tell_memory(net, whole, shape, stem=layout.stem, batch_size=self.at_once(ranks))
        if self.sync_batch_norm and ranks.size > 1:
            synchronize_norms(net)
        self.scatter(ranks)
        return RetrainTask(
            net,
            self.stream(train, normalize, name="train", ranks=ranks),
            test,
            normalize,
            optimizer=self.optimizer,
            regularization=self.regularization,
            num_epochs=self.epochs,
            compute=compute,
            guard=self.guard(ranks),
            accumulate=self.accumulate,
        )
