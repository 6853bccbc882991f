"""The configuration that every run has."""

from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import MISSING

from darts_gdas.config.class_weights import NONE, check_class_weights, class_weights
from darts_gdas.native import Kernels
from darts_gdas.report.logger import Logger
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compilation import Compilation
from darts_gdas.runtime.compute import Compute, Device, Precision
from darts_gdas.runtime.data import BatchStream, derive_seed
from darts_gdas.runtime.datasets import Dataset
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.finite import FiniteGuard, OnNonFinite
from darts_gdas.runtime.images import Images
from darts_gdas.runtime.optim import SGD
from darts_gdas.runtime.saving import Saving
from darts_gdas.runtime.terminal import Verbosity
from darts_gdas.runtime.watch import check_patience

MAX_THREADS = 1024


@dataclass
class RunConfig(Saving):
    """What every run has.

    Attributes:
        dataset: What to learn.
        epochs: Passes over the training data (in a search: over its weights' half).
        batch_size: Images per step.
        balanced_batches: Every class equally often in an epoch of training, however many images it
            has; evaluation sees the images as they are.
        class_weights: What an image of each class counts in the loss that is trained on: "none",
            "balanced" (n / (k n_c) for class c with n_c of n images, of k classes), or a list with
            a number for each class, in their order. See `config.class_weights`.
        seed: Determines everything random.
        device: Where to compute.
        precision: Number format of the forward and backward passes.
        channels_last: Layout of images in memory; faster for depthwise convolutions.
        compile: What `torch.compile` does with the cells; where it fails, the run goes on without.
        threads: CPU threads; 0 is one per core.
        kernels: Who computes on a CPU what PyTorch's libraries are slow at: kernels of this project
            in C++, which a compiler on this machine builds once, or the libraries. See `Kernels`.
        outputs: Where new run folders go.
        run_dir: This run's folder; null makes a new one below `outputs`.
        resume: "none"; "auto" (go on in `run_dir`, or in the newest unfinished run, if there is
            one); or a run folder or checkpoint to go on from.
        sync_batch_norm: Norms over the images of all ranks, not of each by itself. Costs two
            messages per norm and pass; a supernet also loses the fused arithmetic of its edges.
        accumulate: Parts of every batch that pass one after the other: less memory
            for the same gradient. Norms see each part by itself.
        on_nonfinite: Where a gradient is not finite: end the run, leave out the step, or go back to
            the last checkpoint and try once more.
        max_skips: How many steps in a row may be left out.
        rank_timeout_minutes: How long a rank waits for another before the run ends with an error.
        verbosity: How much is said on the terminal.
        logger: Loggers of others that get the figures too, by name: logger=[NAME, ...].
        objective: What the run is judged by where a sweeper optimises, see `config.objective`: a
            name, or a list of names.
    """

    dataset: Dataset = MISSING
    optimizer: SGD = field(default_factory=lambda: SGD(schedule=MISSING))
    epochs: int = 50
    batch_size: int = 64
    balanced_batches: bool = False
    class_weights: Any = NONE
    seed: int = 0
    device: Device = Device.auto
    precision: Precision = Precision.fp32
    channels_last: bool = True
    compile: Compilation = Compilation.none
    threads: int = 0
    kernels: Kernels = Kernels.auto
    outputs: str = "outputs"
    run_dir: str | None = None
    resume: str = "none"
    sync_batch_norm: bool = False
    accumulate: int = 1
    on_nonfinite: OnNonFinite = OnNonFinite.stop
    max_skips: int = 5
    rank_timeout_minutes: float = 30.0
    verbosity: Verbosity = Verbosity.normal
    logger: dict[str, Logger] = field(default_factory=dict)
    objective: Any = MISSING

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
        check_class_weights(self.class_weights, balanced_batches=self.balanced_batches)
        self.guard(ALONE)
        if not 1 <= self.accumulate <= self.batch_size // 2:
            raise ValueError(
                f"accumulate must lie in 1..{self.batch_size // 2} (parts of at least 2 of the "
                f"batch_size={self.batch_size} images), got {self.accumulate}"
            )
        if self.accumulate > 1 and self.sync_batch_norm:
            raise ValueError(
                "sync_batch_norm=true makes norms see more images, accumulate fewer; leave one out"
            )
        check_patience(self.rank_timeout_minutes)
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
            self.device,
            self.precision,
            self.channels_last,
            self.threads,
            self.compile,
            ranks,
            self.kernels,
        )

    def at_once(self, ranks: Ranks) -> int:
        """Images that pass through a rank's network together."""
        return -(-self.batch_size // (ranks.size * self.accumulate))

    def guard(self, ranks: Ranks) -> FiniteGuard:
        """What happens where a gradient is not finite."""
        return FiniteGuard(self.on_nonfinite, self.max_skips, ranks)

    def scatter(self, ranks: Ranks) -> None:
        """From here on, other ranks than the first draw numbers of their own (drop-path)."""
        if ranks.rank > 0:
            torch.manual_seed(derive_seed(self.seed, "rank", ranks.rank))

    def stream(
        self, images: Images, normalize: Normalize, *, name: str, ranks: Ranks = ALONE
    ) -> BatchStream:
        """Augmented training batches of a set; ranks share them."""
        return BatchStream(
            images,
            batch_size=self.batch_size,
            augment=self.dataset.augment,
            normalize=normalize,
            seed=self.seed,
            name=name,
            balanced=self.balanced_batches,
            class_weights=class_weights(
                self.class_weights, images, balanced_batches=self.balanced_batches
            ),
            channels_last=self.channels_last,
            ranks=ranks,
        )
