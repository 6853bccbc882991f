"""A module in data-parallel training, and gradients that are means over the ranks."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from inspect import signature
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.parallel import DistributedDataParallel

from darts_gdas.runtime.distributed import Ranks

_names = signature(DistributedDataParallel).parameters
_OWN_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _names else "broadcast_buffers": False
}
"""No copying of buffers before each pass, by its name in this version of torch."""


class Replica:
    """A rank's copy of a module; after every backward pass all copies have the same gradients.

    A dense pass, in which every weight takes part, goes through PyTorch's
    `DistributedDataParallel`, which sends gradients while others are still being computed. In a
    sparse pass most weights have none: it would send zeros for them, and search the graph for
    them first. Such gradients, and those of a pass that is one of several, are sent when they are
    complete, those that exist and no others.

    Args:
        module: What all ranks train; its weights become those of the first rank.
        ranks: The processes.
        statistics: Buffers that every rank moves by its own images, such as the running
            statistics of norms. They are averaged after every pass, so that all ranks are always
            in the same state.
    """

    def __init__(self, module: nn.Module, ranks: Ranks, statistics: Sequence[Tensor]) -> None:
        self.module = module
        self.ranks = ranks
        self.statistics = statistics if ranks.size > 1 else ()
        self._parameters = list(module.parameters())  # walking all modules in every step is slow
        self._parallel: DistributedDataParallel | None = None
        self._sends = False  # whether the last pass left the gradients to be sent

    def __call__(self, *inputs: Any, sparse: bool = False) -> Any:
        """The module's forward pass, in training.

        Args:
            inputs: The module's arguments.
            sparse: Some weights take no part, the same ones on all ranks; or gradients of
                several passes are added up.
        """
        if self.ranks.size == 1:
            return self.module(*inputs)
        self._sends = sparse
        if sparse and self._parallel is None:
            return self.module(*inputs)
        if self._parallel is None:
            # Sizes of 1 leave strides open; the numbers lie alike, whatever it says.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view")
            self._parallel = DistributedDataParallel(self.module, **_OWN_BUFFERS)
        with self._parallel.no_sync() if sparse else nullcontext():
            return self._parallel(*inputs)

    def finish(self) -> None:
        """After the backward pass, or the last of several: the same state on all ranks."""
        if self.ranks.size == 1:
            return
        sent = self._parameters if self._sends else ()
        gradients = [p.grad for p in sent if p.grad is not None]
        self.ranks.average_([*gradients, *self.statistics])


def with_mean_gradients(tensors: Sequence[Tensor], ranks: Ranks) -> list[Tensor]:
    """The same tensors; what is derived from them in a backward pass is its mean over the ranks.

    A loss over a rank's part of a batch thereby has the gradients of the loss over the whole
    batch, of any order: the mean is linear and its own adjoint, and is differentiated as such.

    Args:
        tensors: Weights or a mixture, on all ranks the same.
        ranks: The processes; all of them must derive the same things in the same order.
    """
    if ranks.size == 1:
        return list(tensors)
    chosen = [tensor for tensor in tensors if tensor.requires_grad]
    if not chosen:
        return list(tensors)
    found: Iterator[Tensor] = iter(_Same.apply(ranks, *chosen))  # type: ignore[arg-type]
    return [next(found) if tensor.requires_grad else tensor for tensor in tensors]


class _Same(Function):
    """The identity, with averaged gradients."""

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.ranks = ranks
        ctx.set_materialize_grads(False)
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        present = [gradient for gradient in gradients if gradient is not None]
        means = iter(_Mean.apply(ctx.ranks, *present) if present else ())
        return None, *(None if gradient is None else next(means) for gradient in gradients)


class _Mean(Function):
    """The mean over the ranks. The derivative of a mean of means is the mean again."""

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.ranks = ranks
        means = [tensor.clone() for tensor in tensors]
        ranks.average_(means)
        return tuple(means)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_Mean.apply(ctx.ranks, *gradients)
