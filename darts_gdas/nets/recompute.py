"""Cells that are computed a second time in the backward pass, to keep less in memory."""

import contextlib

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

import darts_gdas.native as native
from darts_gdas.nets.fused import CellWeights
from darts_gdas.nets.statistics import Replay


def recomputed(
    cell: nn.Module, states: tuple[Tensor, ...], mixture: CellWeights | None, rectify: bool
) -> Tensor:
    """The same, computed again in the backward pass, with the weights and statistics of now.

    In forward mode it is the cell's own pass, for `checkpoint` of torch 2.11 refuses that.
    """
    if native.in_forward_mode():
        return cell(states, mixture, rectify=rectify)
    # `functional_call` may have put others in their place, tangents and all; or they are the cell's
    # own and collect no gradient in this pass alone.
    weights: dict[str, Tensor] = {
        name: weight.detach() if _stands_still(weight) else weight
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


def _stands_still(weight: Tensor) -> bool:
    return isinstance(weight, nn.Parameter) and not weight.requires_grad
