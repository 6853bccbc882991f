"""Running statistics of batch norms: who has them, when they move and when they do not."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

BatchNorm = nn.modules.batchnorm._BatchNorm  # the base of all of them, synchronised ones too


def batch_norms(module: nn.Module) -> list[BatchNorm]:
    """All batch norms that keep running statistics."""
    norms = [part for part in module.modules() if isinstance(part, BatchNorm)]
    return [norm for norm in norms if norm.track_running_stats]


@contextlib.contextmanager
def untouched_statistics(norms: Sequence[BatchNorm]) -> Iterator[None]:
    """Batch norms normalise with the batch and leave their running statistics as they are.

    For passes in training mode that are not a weight step: the arch step would otherwise move
    the statistics up to three times per step.
    """
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class Replay(contextlib.AbstractContextManager[None]):
    """Within it, a module runs as it would have run at construction, its statistics unmoved.

    For a second pass over what has been computed before; it can be entered more than once.
    """

    def __init__(self, module: nn.Module) -> None:
        self._norms = [part for part in module.modules() if isinstance(part, BatchNorm)]
        self._tracked = [norm.track_running_stats for norm in self._norms]

    def __enter__(self) -> None:
        self._now = [norm.track_running_stats for norm in self._norms]
        self._before = [(b, b.clone()) for norm in self._norms for b in norm.buffers()]
        for norm, flag in zip(self._norms, self._tracked, strict=True):
            norm.track_running_stats = flag

    def __exit__(self, *_: object) -> None:
        for norm, flag in zip(self._norms, self._now, strict=True):
            norm.track_running_stats = flag
        with torch.no_grad():
            for buffer, value in self._before:
                buffer.copy_(value)


def uses_batch_statistics(norm: BatchNorm) -> bool:
    """Whether a norm normalises with its batch, as `nn.BatchNorm2d` decides it."""
    return norm.training or norm.running_mean is None


class StatisticsUpdate:
    """What a forward pass does to the running statistics, collected and then done at once.

    One pair of calls for all norms of a cell, where a module each would take three per norm.
    """

    def __init__(self) -> None:
        self._norms: list[BatchNorm] = []
        self._means: list[Tensor] = []
        self._variances: list[Tensor] = []

    def add(
        self,
        norms: Sequence[BatchNorm],
        means: Float[Tensor, "norms channels"],
        variances: Float[Tensor, "norms channels"],
    ) -> None:
        """Note the mean and the unbiased variance that each norm has seen.

        Norms that do not track statistics at this moment are left alone.
        """
        if norms[0].training and norms[0].track_running_stats:
            self._norms += norms
            self._means += means.unbind()
            self._variances += variances.unbind()

    def apply(self) -> None:
        """Move every noted norm by its momentum."""
        if not self._norms:
            return
        momentum = self._norms[0].momentum
        assert momentum is not None  # a cumulative average is nothing that candidates use
        means, variances, counts = [], [], []
        for norm in self._norms:
            assert norm.running_mean is not None and norm.running_var is not None
            assert norm.num_batches_tracked is not None
            means.append(norm.running_mean)
            variances.append(norm.running_var)
            counts.append(norm.num_batches_tracked)
        with torch.no_grad():
            torch._foreach_lerp_(means, self._means, momentum)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_lerp_(variances, self._variances, momentum)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_add_(counts, 1)  # pyright: ignore[reportPrivateImportUsage]
