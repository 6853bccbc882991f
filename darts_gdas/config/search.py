"""The configuration of searches: what a user can set, with types, defaults and checks.

Each strategy is a dataclass and thereby its own schema: a misspelt key or a wrong type is an error
of composition, a value without meaning one of construction. Defaults stand in the dataclasses;
YAML composes them and states what a paper does.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from omegaconf import MISSING

from darts_gdas.config.benchmark import check_column, load_table
from darts_gdas.config.groups import GROUPS
from darts_gdas.config.kernels import of_kernels
from darts_gdas.config.network import NetConfig, SpaceConfig, check_kinds
from darts_gdas.config.objective import OF_SEARCH, names_of
from darts_gdas.config.rules import (
    check,
    of_compilation,
    of_course,
    of_judges,
    of_measurements,
    of_numbers,
    of_objectives,
    of_pressure,
    of_space,
    of_stages,
)
from darts_gdas.config.run import RunConfig
from darts_gdas.config.stages import check_stages
from darts_gdas.config.stem import tell_memory
from darts_gdas.nets import Layout
from darts_gdas.nets.partial import check_partial_channels
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.dataset import needing_size
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.images import Images
from darts_gdas.runtime.look import loaded, of_halves
from darts_gdas.runtime.optim import Adam
from darts_gdas.runtime.split import check_fraction, split_in_two
from darts_gdas.runtime.terminal import PhaseLine, Terminal, Verbosity
from darts_gdas.runtime.workers import check_workers
from darts_gdas.scoring.warm_start import WarmStart
from darts_gdas.search import (
    Discretizer,
    Hypergradient,
    Penalty,
    Perturbation,
    Relaxation,
    Surroundings,
)
from darts_gdas.search.operation_stop import OperationStop
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.diagnostics import Diagnostics
from darts_gdas.tasks.method import Method, Order, SearchData, Stage
from darts_gdas.tasks.running import Running
from darts_gdas.tasks.search import SearchTask
from darts_gdas.tasks.stage import StageSearch


@dataclass
class SearchConfig(RunConfig):
    """Everything a search depends on.

    Attributes:
        penalties: What is added to the validation loss in the arch step, by name:
            penalties=[NAME, ...].
        perturbation: What the weight step does to its mixture.
        warm_start: Where the first alphas come from.
        workers: Processes of each rank that measure side by side in a warm start, each with one
            thread; 0 is one per core, shared among the ranks of a machine.
        diagnostics: What is measured along the way, and whether the search stops by itself.
        order: Which of the two steps comes first, or the weights' alone, without arch steps.
        weights_fraction: Share of the training set for the weight steps; the rest is for the
            arch steps. The papers use a half.
        checkpoint_cells: Compute each cell again in the backward pass: less memory, more time.
        benchmark: Known accuracies of all cells of the space (.npz, .csv, or NATS-Bench's files);
            every epoch and the result then say what the found cell reaches.
        benchmark_column: Which of its columns.
        partial_channels: K: 1 / K of the channels runs through the candidates. PC-DARTS takes 4.
        edge_normalization: Weigh the edges into a node against each other (PC-DARTS).
        arch_warmup_epochs: Epochs at the beginning in which the alphas stand still. PC-DARTS
            takes 15 of 50.
        operation_stop: Which operations of the supernet stop learning on the way (OLES).
        stages: The stages of a progressive search, in order; their epochs sum to `epochs`. An
            empty list is a search of one stage.
    """

    space: SpaceConfig = MISSING
    net: NetConfig = field(default_factory=NetConfig)
    relaxation: Relaxation = MISSING
    hypergradient: Hypergradient = MISSING
    discretizer: Discretizer = MISSING
    arch_optimizer: Adam = field(default_factory=Adam)
    penalties: dict[str, Penalty] = field(default_factory=dict)
    perturbation: Perturbation | None = None
    warm_start: WarmStart = MISSING
    workers: int = 0
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    order: Order = Order.arch_first
    weights_fraction: float = 0.5
    checkpoint_cells: bool = False
    benchmark: str | None = None
    benchmark_column: str | None = None
    partial_channels: int = 1
    edge_normalization: bool = False
    arch_warmup_epochs: int = 0
    operation_stop: OperationStop = field(default_factory=OperationStop)
    stages: list[Stage] = field(default_factory=list)
    objective: Any = "validation_accuracy"

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        check_column(self.benchmark, self.benchmark_column)
        check_workers(self.workers)
        if not self.channels_last:
            raise ValueError(
                "channels_last=false has no effect on a search: the supernet computes in "
                "channels_last alone; leave it out (retraining has the choice)"
            )
        method = self.method(self.penalties)
        check(
            of_numbers(self, method),
            of_pressure(method),
            of_compilation(self, method, checkpoint_cells=self.checkpoint_cells),
            of_course(self, method, self.warm_start),
            of_measurements(self, method, self.diagnostics),
            of_space(space := self.space.build(), method),
            of_kernels(space, method, self.warm_start),
            of_judges(method, self.benchmark),
            of_objectives(names_of(self.objective, OF_SEARCH), method, self.benchmark),
        )
        check_partial_channels(self.partial_channels, self.net.channels)
        self.layout(num_classes=2, in_channels=1)
        check_fraction(self.weights_fraction, "weights_fraction")
        if self.stages:
            self._check_stages(method)

    def _check_stages(self, method: Method) -> None:
        check_stages(self.stages, self.space.build(), epochs=self.epochs)
        check(of_stages(self, method, self.diagnostics, self.stages))
        for i in range(len(self.stages)):
            try:
                self.of_stage(i)
            except ValueError as error:
                raise ValueError(f"stages.{i}: {error}") from None

    def of_stage(self, index: int) -> "SearchConfig":
        """A stage as a search of its own. Only the first has this search's random numbers."""
        stage = self.stages[index]
        return replace(
            self,
            stages=[],
            net=replace(self.net, **stage.network),
            epochs=stage.epochs,
            partial_channels=stage.partial_channels,
            arch_warmup_epochs=stage.arch_warmup_epochs,
            seed=derive_seed(self.seed, "stage", index) if index else self.seed,
        )

    def build(self, ranks: Ranks = ALONE) -> SearchTask:
        """Load the data, check that it fits, build the networks."""
        compute = self.compute(ranks)
        space = self.space.build()
        known = load_table(self.benchmark, self.benchmark_column, space, complete=True)
        train, _ = loaded(self.dataset)
        parts = [self.of_stage(i) for i in range(len(self.stages))] or [self]
        for part in parts:
            with needing_size(self.dataset):
                part._layout_for(train).check_image_size(*train.image_size)
        halves = self._halves(train, compute)

        def build(index: int, space: SearchSpace) -> StageSearch:
            return parts[index]._build_stage(space, train, halves, compute)

        return SearchTask(space, self.stages or [Stage(self.epochs)], build, known)

    def _build_stage(
        self, space: SearchSpace, train: Images, halves: list[Images], compute: Compute
    ) -> StageSearch:
        """This search, which is one stage, over what is left of the space."""
        ranks, layout = compute.ranks, self._layout_for(train)
        torch.manual_seed(self.seed)  # the same on all ranks
        speaks = self.verbosity if ranks.is_first else Verbosity.quiet
        with PhaseLine(Terminal(speaks)) as told:
            limits = self.discretizer.skip_limits
            at = Surroundings(space, layout, train.image_size, compute.device, told, limits)
            penalties = self.built_penalties(at)
        search = StageSearch(
            space,
            layout,
            self.method(penalties),
            self.data(train, halves, ranks),
            self.epochs,
            Running(
                compute,
                self.seed,
                self.diagnostics,
                checkpoint_cells=self.checkpoint_cells,
                sync_batch_norm=self.sync_batch_norm,
                guard=self.guard(ranks),
                accumulate=self.accumulate,
            ),
        )
        self.net.initialize(search.supernet)
        shape = (train.in_channels, *train.image_size)
        tell_memory(
            search.supernet,
            search.pass_on_shapes,
            shape,
            stem=layout.stem,
            batch_size=self.at_once(ranks),
        )
        self.scatter(ranks)
        return search

    def _layout_for(self, images: Images) -> Layout:
        return self.layout(
            num_classes=images.num_classes,
            in_channels=images.in_channels,
            image_size=images.image_size,
        )

    def layout(
        self, *, num_classes: int, in_channels: int, image_size: tuple[int, int] | None = None
    ) -> Layout:
        """The supernet's outer network."""
        space = self.space.build()
        layout = self.net.layout(
            space, num_classes=num_classes, in_channels=in_channels, image_size=image_size
        )
        if layout.layers != self.net.layers:
            raise ValueError(
                f"net.layers must be {layout.layers}, got {self.net.layers}: one for each block of "
                "the space"
            )
        check_kinds(space, layout)
        return layout

    def built_penalties(self, surroundings: Surroundings) -> dict[str, Penalty]:
        """The penalties as the search uses them, in an order that the user does not choose."""
        names = dict.fromkeys((*GROUPS["penalties"], *self.penalties))
        chosen = {name: self.penalties[name] for name in names if name in self.penalties}
        return {name: penalty.build(surroundings) for name, penalty in chosen.items()}

    def method(self, penalties: Mapping[str, Penalty]) -> Method:
        """The strategies, with the penalties as they are configured or built."""
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
            operation_stop=self.operation_stop,
        )

    def _halves(self, train: Images, compute: Compute) -> list[Images]:
        """The images for the weights and those for the alphas, on the device."""
        seed = derive_seed(self.seed, "split")
        split = split_in_two(train.labels, self.weights_fraction, seed, "weights_fraction")
        halves = [train.select(indices).to(compute.device) for indices in split]
        if told := of_halves(halves):
            logging.getLogger(__name__).warning("%s", told)
        return halves

    def data(self, train: Images, halves: list[Images], ranks: Ranks = ALONE) -> SearchData:
        """Batches of this search from the halves of a training set."""
        normalize = Normalize(*train.statistics())
        weights, arch = halves
        return SearchData(
            self.stream(weights, normalize, name="weights", ranks=ranks),
            self.stream(arch, normalize, name="arch", ranks=ranks),
            arch,
            normalize,
        )
