"""Running statistics of batch norms: who has them, when they move and when they do not.

The count of `nets.noise` moves and stands still with them.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.nets.noise import Noise, noises
from darts_gdas.nets.synced import is_synced

# One call for many tensors; PyTorch's own optimisers are built on these.
_lerp = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]
_add = torch._foreach_add_  # pyright: ignore[reportPrivateImportUsage]

_set = object.__setattr__  # a module's own, which looks for weights first, takes ten times as long

BatchNorm = nn.modules.batchnorm._BatchNorm  # the base of all of them, synchronised ones too

Tracked = BatchNorm | Noise
"""What training passes move, beside weights."""


def tracked_modules(module: nn.Module) -> list[Tracked]:
    """All batch norms that keep running statistics, and all noise."""
    return [*batch_norms(module), *noises(module)]


def batch_norms(module: nn.Module) -> list[BatchNorm]:
    """All batch norms that keep running statistics."""
    return [norm for norm in _all_norms(module) if norm.track_running_stats]


def running_statistics(module: nn.Module) -> list[Tensor]:
    """Running means and variances of all norms whose ranks see different batches."""
    norms = [norm for norm in batch_norms(module) if not is_synced(norm)]
    found = (buffer for norm in norms for buffer in (norm.running_mean, norm.running_var))
    return [buffer for buffer in found if buffer is not None]


def _all_norms(module: nn.Module) -> list[BatchNorm]:
    return [part for part in module.modules() if isinstance(part, BatchNorm)]


@contextlib.contextmanager
def untouched_statistics(modules: Sequence[Tracked]) -> Iterator[None]:
    """Batch norms normalise with the batch and leave their running statistics as they are.

    For passes in training mode that are not a weight step: the arch step would otherwise move
    the statistics up to three times per step. Noise draws the same in all of them.
    """
    try:
        for module in modules:
            _set(module, "track_running_stats", False)
        yield
    finally:
        for module in modules:
            _set(module, "track_running_stats", True)


class Replay(contextlib.AbstractContextManager[None]):
    """Within it, a module runs as it would have run at construction, its statistics unmoved.

    For a second pass over what has been computed before; it can be entered more than once.
    """

    def __init__(self, module: nn.Module) -> None:
        self._noises = noises(module)
        self._draws = [noise.draws.clone() for noise in self._noises]
        self._norms: list[Tracked] = [*_all_norms(module), *self._noises]
        self._tracked = [norm.track_running_stats for norm in self._norms]

    def __enter__(self) -> None:
        self._now = [norm.track_running_stats for norm in self._norms]
        self._before = [(b, b.clone()) for norm in self._norms for b in norm.buffers()]
        for norm, flag in zip(self._norms, self._tracked, strict=True):
            norm.track_running_stats = flag
        with torch.no_grad():
            for noise, draws in zip(self._noises, self._draws, strict=True):
                noise.draws.copy_(draws)

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
        means: Float[Tensor, "*norms channels"],
        variances: Float[Tensor, "*norms channels"],
    ) -> None:
        """Note the mean and the unbiased variance that each norm has seen.

        Norms that do not track statistics at this moment are left alone.
        """
        moves = [norm.training and norm.track_running_stats for norm in norms]
        if not any(moves):
            return
        rows = (moments.reshape(len(norms), -1).unbind() for moments in (means, variances))
        for norm, mean, variance, moved in zip(norms, *rows, moves, strict=True):
            if moved:
                self._norms.append(norm)
                self._means.append(mean)
                self._variances.append(variance)

    def apply(self) -> None:
        """Move every noted norm by its momentum."""
        groups: dict[float, list[int]] = {}
        for i, norm in enumerate(self._norms):
            assert norm.momentum is not None  # a cumulative average is nothing candidates use
            groups.setdefault(norm.momentum, []).append(i)
        for momentum, chosen in groups.items():
            means, variances, counts = [], [], []
            for norm in (self._norms[i] for i in chosen):
                assert norm.running_mean is not None and norm.running_var is not None
                assert norm.num_batches_tracked is not None
                means.append(norm.running_mean)
                variances.append(norm.running_var)
                counts.append(norm.num_batches_tracked)
            new_means, new_variances = (
                [values[i] for i in chosen] for values in (self._means, self._variances)
            )
            with torch.no_grad():
                _lerp(means, new_means, momentum)
                _lerp(variances, new_variances, momentum)
                _add(counts, 1)
