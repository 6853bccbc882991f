"""The configuration of a ranking of untrained cells."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from omegaconf import MISSING

from darts_gdas.config.benchmark import check_column, load_table
from darts_gdas.config.kernels import of_scores
from darts_gdas.config.network import SpaceConfig
from darts_gdas.config.rules import check
from darts_gdas.config.stem import StemChoice
from darts_gdas.nets import Layout
from darts_gdas.nets.layout import skeleton_of
from darts_gdas.nets.operations import check_operations
from darts_gdas.reasons import check_minima
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compute import Compute, Device, Precision
from darts_gdas.runtime.dataset import Dataset, needing_size
from darts_gdas.runtime.look import loaded
from darts_gdas.runtime.terminal import Verbosity
from darts_gdas.runtime.watch import check_patience
from darts_gdas.runtime.workers import check_workers
from darts_gdas.scoring.scores import DEFAULT_SCORES, SIZES, check_scores
from darts_gdas.scoring.table import AccuracyTable
from darts_gdas.space import Genotype
from darts_gdas.space.networks import network_key
from darts_gdas.tasks.ranking import ScoreTask

TRIES = 20
"""Draws per cell that is asked for, after which a space counts as too small."""


@dataclass
class ScoreConfig:
    """What a ranking depends on.

    Attributes:
        dataset: Where the batches come from.
        space: What to sample cells from.
        count: Cells to sample, each network once.
        cells: A text file with one cell per line (a published name, a path, a NAS-Bench-201
            string) to score in place of samples.
        scores: What to rank by; the ranks are added up. Parameters and multiply-adds stand beside.
        repeats: Networks and batches per cell.
        batch_size: Images per batch.
        channels: Channels of the small networks' first cells.
        benchmark: Known accuracies (.npz, .csv, or NATS-Bench's files) to hold the scores against.
        benchmark_column: Which of its columns.
        seed: Determines everything random.
        device: Where to compute.
        threads: CPU threads; 0 is one per core.
        workers: Processes of each rank that score cells side by side, each with one thread; 0 is
            one per core, shared among the ranks of a machine.
        rank_timeout_minutes: How long a rank waits for another before the run ends with an error.
        outputs: Where new run folders go.
        run_dir: This run's folder; null makes a new one below `outputs`.
        resume: "none"; "auto" (the newest unfinished ranking); or a run folder to go on in.
        verbosity: How much is said on the terminal.
    """

    dataset: Dataset = MISSING
    space: SpaceConfig = MISSING
    count: int = 200
    cells: str | None = None
    scores: list[str] = field(default_factory=lambda: list(DEFAULT_SCORES))
    repeats: int = 1
    batch_size: int = 32
    channels: int = 8
    benchmark: str | None = None
    benchmark_column: str | None = None
    seed: int = 0
    device: Device = Device.auto
    threads: int = 1
    workers: int = 0
    rank_timeout_minutes: float = 30.0
    outputs: str = "outputs"
    run_dir: str | None = None
    resume: str = "none"
    verbosity: Verbosity = Verbosity.normal

    def __post_init__(self) -> None:
        check_scores(self.scores, "scores")
        check_workers(self.workers)
        check_patience(self.rank_timeout_minutes)
        minima = {"count": 3, "repeats": 1, "batch_size": 2, "channels": 2, "threads": 0}
        check_minima(self, "", minima)
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must lie in 0..2^63 - 1, got {self.seed}")
        check_column(self.benchmark, self.benchmark_column)

    def genotypes(self) -> tuple[Genotype, ...]:
        """The cells: those of the file, or a sample."""
        if self.cells is None:
            return self._sample()
        try:
            lines = Path(self.cells).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cells={self.cells} cannot be read: {error}") from None
        genotypes = tuple(
            self._cell(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()
        )
        if len(genotypes) < 3:
            raise ValueError(f"cells={self.cells} must hold at least 3 cells, got {len(genotypes)}")
        return genotypes

    def _cell(self, number: int, line: str) -> Genotype:
        try:
            genotype = Genotype.load(line)
            check_operations(genotype.operations, "the cell")
        except ValueError as error:
            raise ValueError(f"cells={self.cells}, line {number}: {error}") from None
        return genotype

    def _sample(self) -> tuple[Genotype, ...]:
        """Random cells, each network once."""
        rng, space = Random(self.seed), self.space.build()
        found: dict[str, Genotype] = {}
        for _ in range(TRIES * self.count):
            genotype = space.sample(rng)
            found.setdefault(network_key(genotype), genotype)
            if len(found) == self.count:
                return tuple(found.values())
        raise ValueError(
            f"count={self.count} different networks were not found in the space among "
            f"{TRIES * self.count} random cells, only {len(found)}; take fewer"
        )

    def table(self) -> AccuracyTable | None:
        """The known accuracies, of all cells that are scored."""
        space = self.space.build()
        table = load_table(self.benchmark, self.benchmark_column, space, complete=False)
        if table is not None:
            table.check_cells(self.genotypes())
        return table

    def build(self) -> ScoreTask:
        """Load the data, and all that can be wrong."""
        compute = Compute.select(self.device, Precision.fp32, False, self.threads)
        train, _ = loaded(self.dataset)
        genotypes = self.genotypes()
        for genotype in genotypes:
            check(of_scores(self.scores, genotype.operations, "scores"))
        if len({(genotype.reductions, genotype.widths) for genotype in genotypes}) > 1:
            raise ValueError(
                f"cells={self.cells} must hold cells of one network, got chains of two"
            )
        inputs = {kind: n for cells in genotypes for kind, n in cells.num_inputs.items()}
        skeleton = skeleton_of(inputs)
        sizes = self.channels, skeleton.fewest_layers, train.num_classes, train.in_channels
        stem = StemChoice.auto.stem(skeleton, train.image_size)
        layout = Layout.of(genotypes[0], *sizes, stem)
        if not layout.searched_kinds <= set(inputs):  # no cells for reductions
            layout = replace(layout, reductions=())
        with needing_size(self.dataset):
            layout.check_image_size(*train.image_size)
        task = ScoreTask(
            genotypes,
            layout,
            train,
            Normalize(*train.statistics()),
            self.batch_size,
            tuple(self.scores),
            SIZES,
            self.repeats,
            compute,
            self.seed,
        )
        if (found := len(task.networks)) < 3:
            raise ValueError(
                f"cells={self.cells} must hold at least 3 cells, no two of them one network, "
                f"got {found}"
            )
        return task
