"""Cells that are computed a second time in the backward pass, to keep less in memory."""

import contextlib

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from darts_gdas.nets.fused import CellWeights
from darts_gdas.nets.statistics import Replay


def recomputed(
    cell: nn.Module, states: tuple[Tensor, ...], mixture: CellWeights | None, rectify: bool
) -> Tensor:
    """The same, computed again in the backward pass, with the weights and statistics of now."""
    # Others may have been put in their place, or they may collect no gradient in this pass alone.
    weights: dict[str, Tensor] = {
        name: weight if weight.requires_grad else weight.detach()
        for name, weight in cell.named_parameters()
    }
    replay = Replay(cell)

    def run(*states: Tensor) -> Tensor:
        return functional_call(cell, weights, (states, mixture), {"rectify": rectify})

    return checkpoint(
        run,
        *states,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (contextlib.nullcontext(), replay),
    )
