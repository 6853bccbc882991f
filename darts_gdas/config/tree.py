"""The configuration of runs and searches: what a user can set, with types, defaults and checks.

Each strategy is a dataclass and thereby its own schema: a misspelt key or a wrong type is an error
of composition, a value without meaning one of construction. Defaults stand in the dataclasses;
YAML composes them and states what a paper does.
"""

import math
from dataclasses import dataclass, field

import torch
from omegaconf import MISSING

from darts_gdas.config.benchmark import check_column, load_table
from darts_gdas.config.network import NetConfig, SpaceConfig, check_kinds
from darts_gdas.config.pressure import Penalties, check_pressure
from darts_gdas.config.stages import (
    check_compilation,
    check_measurements,
    check_order,
    check_untrained,
)
from darts_gdas.nets import Layout, Skeleton
from darts_gdas.nets.partial import check_partial_channels
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compilation import Compilation
from darts_gdas.runtime.compute import Compute, Device, Precision
from darts_gdas.runtime.data import BatchStream, derive_seed
from darts_gdas.runtime.datasets import Dataset
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.images import ImageSet, stratified_split
from darts_gdas.runtime.optim import SGD, Adam
from darts_gdas.runtime.saving import Saving
from darts_gdas.scoring.warm_start import WarmStart
from darts_gdas.search import (
    Discretizer,
    Hypergradient,
    Penalty,
    Perturbation,
    Relaxation,
    Unrolled,
)
from darts_gdas.tasks.method import Method, Order, SearchData
from darts_gdas.tasks.monitor import Diagnostics
from darts_gdas.tasks.search import SearchTask

MAX_THREADS = 1024


@dataclass
class RunConfig(Saving):
    """What every run has.

    Attributes:
        dataset: What to learn.
        epochs: Passes over the training data (in a search: over its weights' half).
        batch_size: Images per step.
        seed: Of everything random.
        device: Where to compute.
        precision: Number format of the forward and backward passes.
        channels_last: Layout of images in memory; faster for depthwise convolutions.
        compile: What `torch.compile` does with the cells; where it fails, the run goes on without.
        threads: CPU threads; 0 is one per core.
        outputs: Where new run folders go.
        run_dir: This run's folder; null makes a new one below `outputs`.
        resume: "none"; "auto" (go on in `run_dir`, or in the newest unfinished run, if there is
            one); or a run folder or checkpoint to go on from.
        sync_batch_norm: Norms over the images of all ranks, not of each by itself. Costs two
            messages per norm and pass; a supernet also loses the fused arithmetic of its edges.
        rank_timeout_minutes: How long a rank waits for another before the run ends with an error.
    """

    dataset: Dataset = MISSING
    optimizer: SGD = field(default_factory=lambda: SGD(schedule=MISSING))
    epochs: int = 50
    batch_size: int = 64
    seed: int = 0
    device: Device = Device.auto
    precision: Precision = Precision.fp32
    channels_last: bool = True
    compile: Compilation = Compilation.none
    threads: int = 0
    outputs: str = "outputs"
    run_dir: str | None = None
    resume: str = "none"
    sync_batch_norm: bool = False
    rank_timeout_minutes: float = 30.0

    def __post_init__(self) -> None:
        Saving.__post_init__(self)
        if self.epochs < 0:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be at least 2, got {self.batch_size}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must lie in 0..2^63 - 1, got {self.seed}")
        if not 0 <= self.threads <= MAX_THREADS:
            raise ValueError(
                f"threads must lie in 0..{MAX_THREADS} (0 is one per core), got {self.threads}"
            )
        if not 0 < self.rank_timeout_minutes < math.inf:
            raise ValueError(
                f"rank_timeout_minutes must be positive, got {self.rank_timeout_minutes}"
            )
        if self.sync_batch_norm and self.compile is not Compilation.none:
            raise ValueError(
                f"sync_batch_norm=true waits for other ranks inside the cells, which "
                f"compile={self.compile.name} cannot hold; leave one of them out"
            )
        if not self.resume.strip() or (self.run_dir is not None and not self.run_dir.strip()):
            raise ValueError("resume and run_dir must not be blank; leave them out instead")

    def compute(self, ranks: Ranks = ALONE) -> Compute:
        """Device, precision, memory layout, threads and ranks."""
        return Compute.select(
            self.device, self.precision, self.channels_last, self.threads, self.compile, ranks
        )

    def scatter(self, ranks: Ranks) -> None:
        """From here on, other ranks than the first draw numbers of their own (drop-path)."""
        if ranks.rank > 0:
            torch.manual_seed(derive_seed(self.seed, "rank", ranks.rank))

    def stream(
        self, images: ImageSet, normalize: Normalize, *, name: str, ranks: Ranks = ALONE
    ) -> BatchStream:
        """Augmented training batches of a set; ranks share them."""
        return BatchStream(
            images,
            batch_size=self.batch_size,
            augment=self.dataset.augment,
            normalize=normalize,
            seed=self.seed,
            name=name,
            channels_last=self.channels_last,
            ranks=ranks,
        )


@dataclass
class SearchConfig(RunConfig):
    """Everything a search depends on.

    Attributes:
        penalties: What is added to the validation loss in the arch step.
        perturbation: What the weight step does to its mixture.
        warm_start: Where the first alphas come from.
        diagnostics: What is measured along the way, and whether the search stops by itself.
        weights_fraction: Share of the training set for the weight steps; the rest is for the
            arch steps. The papers use a half.
        checkpoint_cells: Compute each cell again in the backward pass: less memory, more time.
        benchmark: A table of known accuracies (.npz or .csv) of all cells of the space; every
            epoch and the result then say what the found cell reaches.
        benchmark_column: Which of its columns.
        partial_channels: K: 1 / K of the channels runs through the candidates. PC-DARTS takes 4.
        edge_normalization: Weigh the edges into a node against each other (PC-DARTS).
        arch_warmup_epochs: Epochs at the beginning in which the alphas stand still. PC-DARTS
            takes 15 of 50.
    """

    space: SpaceConfig = MISSING
    net: NetConfig = field(default_factory=NetConfig)
    relaxation: Relaxation = MISSING
    hypergradient: Hypergradient = MISSING
    discretizer: Discretizer = MISSING
    arch_optimizer: Adam = field(default_factory=Adam)
    penalties: Penalties = field(default_factory=Penalties)
    perturbation: Perturbation | None = None
    warm_start: WarmStart = MISSING
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    order: Order = Order.arch_first
    weights_fraction: float = 0.5
    checkpoint_cells: bool = False
    benchmark: str | None = None
    benchmark_column: str | None = None
    partial_channels: int = 1
    edge_normalization: bool = False
    arch_warmup_epochs: int = 0

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        check_column(self.benchmark, self.benchmark_column)
        if not self.channels_last:
            raise ValueError(
                "channels_last=false has no effect on a search: the supernet computes in "
                "channels_last alone; leave it out (retraining has the choice)"
            )
        if isinstance(self.hypergradient, Unrolled) and self.precision is not Precision.fp32:
            raise ValueError(
                f"hypergradient=unrolled needs precision=fp32, got {self.precision.name}: its "
                "finite difference is smaller than the rounding; use hypergradient=unrolled_exact"
            )
        check_pressure(self.relaxation, self.penalties, self.perturbation, self.order)
        check_compilation(
            self.compile,
            self.relaxation,
            self.hypergradient,
            self.perturbation,
            checkpoint_cells=self.checkpoint_cells,
        )
        check_untrained(self.epochs, self.warm_start, self.discretizer)
        check_order(self.order, self.relaxation, self.hypergradient, self.discretizer)
        check_measurements(self.diagnostics, self.discretizer, self.compile)
        check_partial_channels(self.partial_channels, self.net.channels)
        if self.arch_warmup_epochs and self.order is Order.weights_only:
            raise ValueError("arch_warmup_epochs has no effect with order=weights_only")
        if self.arch_warmup_epochs and not 0 < self.arch_warmup_epochs < self.epochs:
            raise ValueError(
                f"arch_warmup_epochs must lie between 0 and epochs={self.epochs}, which it must "
                f"not reach, got {self.arch_warmup_epochs}: the alphas would never move"
            )
        self.layout(num_classes=2, in_channels=1)
        if not 0 < self.weights_fraction < 1:
            raise ValueError(
                f"weights_fraction must lie between 0 and 1, got {self.weights_fraction}"
            )

    def build(self, ranks: Ranks = ALONE) -> SearchTask:
        """Load the data, check that it fits, build the networks."""
        compute = self.compute(ranks)
        torch.manual_seed(self.seed)
        space = self.space.build()
        known = load_table(self.benchmark, self.benchmark_column, space, complete=True)
        train, _ = self.dataset.load()
        layout = self.layout(num_classes=train.num_classes, in_channels=train.in_channels)
        layout.check_image_size(*train.image_size)
        penalties = self.penalties.build(space, layout, train.image_size, compute.device)
        task = SearchTask(
            space,
            layout,
            self.method(penalties),
            self._data(train, compute),
            num_epochs=self.epochs,
            compute=compute,
            seed=self.seed,
            diagnostics=self.diagnostics,
            checkpoint_cells=self.checkpoint_cells,
            sync_batch_norm=self.sync_batch_norm,
            known=known,
        )
        self.net.initialize(task.supernet)
        self.scatter(ranks)
        return task

    def layout(self, *, num_classes: int, in_channels: int) -> Layout:
        """The supernet's outer network."""
        space = self.space.build()
        skeleton = Skeleton.of(cell.num_inputs for cell in space.cells.values())
        layout = self.net.layout(skeleton, num_classes=num_classes, in_channels=in_channels)
        check_kinds(space, layout)
        return layout

    def method(self, penalties: tuple[Penalty, ...] = ()) -> Method:
        """The strategies, with penalties that have been built."""
        return Method(
            self.relaxation,
            self.hypergradient,
            self.discretizer,
            self.optimizer,
            self.arch_optimizer,
            self.order,
            penalties,
            self.perturbation,
            partial_channels=self.partial_channels,
            edge_normalization=self.edge_normalization,
            arch_warmup_epochs=self.arch_warmup_epochs,
        )

    def _data(self, train: ImageSet, compute: Compute) -> SearchData:
        normalize = Normalize(*train.statistics())
        halves = stratified_split(
            train.labels, self.weights_fraction, derive_seed(self.seed, "split")
        )
        weights, arch = (train.select(indices).to(compute.device) for indices in halves)
        return SearchData(
            self.stream(weights, normalize, name="weights", ranks=compute.ranks),
            self.stream(arch, normalize, name="arch", ranks=compute.ranks),
            arch,
            normalize,
        )
