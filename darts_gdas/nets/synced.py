"""Batch norms whose batch is that of all ranks."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function


class SyncedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the images of all ranks; in evaluation, and alone, just that.

    Unlike `nn.SyncBatchNorm` it runs on CPUs too and has derivatives of every order, which an
    unrolled step needs. Ranks may hold different numbers of images. The mean is known before the
    squares are summed, so no digits cancel; a pass sends C + 1 numbers, then C.

    Attributes:
        waits: Whether there are others to wait for; see `by_itself`.
    """

    waits = True

    def forward(
        self, input: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The images with mean 0 and variance 1 in each channel, over the ranks."""
        alone = not self.waits or not dist.is_initialized() or dist.get_world_size() == 1
        if alone or not (self.training or self.running_mean is None):
            return super().forward(input)
        self._check_input_dim(input)
        wide = input.float() if input.dtype.itemsize < 4 else input
        count = wide.new_full((1,), input.numel() // input.shape[1])
        sums: Tensor = _Total.apply(torch.cat([wide.sum((0, 2, 3)), count]))  # type: ignore
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = wide - mean[:, None, None]
        squares: Tensor = _Total.apply(centred.square().sum((0, 2, 3)))  # type: ignore
        variance = squares / total
        self._move(mean.detach(), squares.detach() / (total - 1))
        scale = (variance + self.eps).rsqrt()
        y = centred * (scale * self.weight if self.affine else scale)[:, None, None]
        return (y + self.bias[:, None, None] if self.affine else y).to(input.dtype)

    def _move(self, mean: Tensor, unbiased: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None:
            return
        assert self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
            self.num_batches_tracked += 1


@contextlib.contextmanager
def by_itself(module: nn.Module) -> Iterator[None]:
    """Within it, no norm waits for other ranks: for what one of them computes alone."""
    synced = [part for part in module.modules() if isinstance(part, SyncedBatchNorm)]
    for norm in synced:
        norm.waits = False
    try:
        yield
    finally:
        for norm in synced:
            norm.waits = True


def is_synced(norm: nn.Module) -> bool:
    """Whether a norm waits for other processes, and so has to run by itself."""
    return isinstance(norm, SyncedBatchNorm)


class _Total(Function):
    """The sum over the ranks. What all ranks' losses say of a sum is the sum of what they say."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore
        return _Total.apply(gradient)  # type: ignore[return-value]


def synchronize_norms(module: nn.Module) -> None:
    """Replace every batch norm inside a module by one over all ranks, with the same state."""
    for parent in list(module.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.BatchNorm2d) and not isinstance(norm, SyncedBatchNorm):
                setattr(parent, name, _synced(norm))


def _synced(norm: nn.BatchNorm2d) -> SyncedBatchNorm:
    synced = SyncedBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    synced.train(norm.training)
    tensors = [t for t in (*norm.parameters(), *norm.buffers()) if t.is_floating_point()]
    if tensors:
        synced.to(tensors[0])
    synced.load_state_dict(norm.state_dict())
    return synced
