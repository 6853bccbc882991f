"""How a stage of a search is run: device, seed, diagnostics, memory."""

from dataclasses import dataclass, field

from darts_gdas.nets import Layout, SuperNet
from darts_gdas.nets.synced import synchronize_norms
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.finite import FiniteGuard
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.diagnostics import Diagnostics


@dataclass(frozen=True)
class Running:
    """How a stage is run, whatever its method and its data are.

    Attributes:
        compute: Device, precision, layout in memory.
        seed: The seed of the alphas and the noise; torch's global seed makes the weights.
        diagnostics: What to measure along the way, and when to stop early.
        checkpoint_cells: Compute each cell again in the backward pass, see `SuperNet`.
        sync_batch_norm: Norms over the images of all ranks, see `SyncedBatchNorm`.
        guard: What happens where a gradient is not finite, see `WeightStep`.
        accumulate: Parts of a batch that pass one after the other, see `WeightStep`.
    """

    compute: Compute
    seed: int
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    checkpoint_cells: bool = False
    sync_batch_norm: bool = False
    guard: FiniteGuard | None = None
    accumulate: int = 1

    def supernet(self, space: SearchSpace, layout: Layout, *, partial_channels: int) -> SuperNet:
        """A new supernet on its device, drawn from torch's global generator."""
        supernet = SuperNet(
            space,
            layout,
            checkpoint_cells=self.checkpoint_cells,
            partial_channels=partial_channels,
        )
        if self.sync_batch_norm and self.compute.ranks.size > 1:
            synchronize_norms(supernet)
        supernet = self.compute.place(supernet)
        supernet.run_cell = self.compute.compiled(supernet.run_cell)
        return supernet
