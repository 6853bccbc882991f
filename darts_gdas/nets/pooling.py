"""Images normalised by their batch, as they are or pooled, as a supernet uses them.

On plain tensors of a CPU they are a kernel in C++ (`native`), where that can be built: in place of
the pooled images it keeps one byte for each, or nothing. Elsewhere they are the library's.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

import darts_gdas.native as native
from darts_gdas.nets.formats import autocasts
from darts_gdas.nets.functions import apply
from darts_gdas.nets.statistics import StatisticsUpdate, uses_batch_statistics

Images = Float[Tensor, "batch channels height width"]
Reduced = Float[Tensor, "batch channels out_height out_width"]
Channels = Float[Tensor, " channels"]


def normalized_pool(x: Images, pool: nn.Module, eps: float) -> tuple[Reduced, Channels, Channels]:
    """Images pooled, then normalised by their batch.

    Args:
        x: Images.
        pool: How to pool.
        eps: Added to the variances.

    Returns:
        The normalised images, and mean and unbiased variance of the pooled ones, without
        derivatives.
    """
    how = _kernel(pool, x)
    return _by_library(x, pool, eps) if how is None else _by_kernel(x, pool, how, eps)


def normalized(x: Images, norm: nn.BatchNorm2d, update: StatisticsUpdate) -> Images:
    """`norm(x)`.

    Args:
        x: Images.
        norm: A norm.
        update: Takes the batch's statistics, where the norm does not move its own.
    """
    how = _kernel(_AS_IT_IS, x) if normalizes_alone(norm) else None
    if how is None:
        return norm(x)
    y, mean, variance = _by_kernel(x, _AS_IT_IS, how, norm.eps)
    update.add([norm], mean[None], variance[None])
    return y


def normalizes_alone(norm: nn.BatchNorm2d) -> bool:
    """Whether a norm takes the batch's statistics and does nothing else, and nobody listens."""
    is_plain = type(norm) is nn.BatchNorm2d and not norm.affine and norm.momentum is not None
    return is_plain and uses_batch_statistics(norm) and not has_listeners(norm)


_AS_IT_IS = nn.Identity()


def _kernel(pool: nn.Module, x: Tensor) -> native.Pool | None:
    """What computes a pooling and the norm behind it, if it is in C++."""
    how = _known(pool, x)
    return None if how is None or autocasts(x.device) or not how.takes(x) else how


def _known(pool: nn.Module, x: Tensor) -> native.Pool | None:
    """The pooling, if it is of those that candidates use and nobody watches or replaces it."""
    taken = _TAKEN.get(type(pool))
    if taken is None or x.dim() != 4 or has_listeners(pool):
        return None
    stride = getattr(pool, "stride", 1)
    is_usual = all(getattr(pool, name) == value for name, value in _USUAL[taken].items())
    if not isinstance(stride, int) or stride not in (1, 2) or not is_usual:
        return None
    images, channels, height, width = x.shape
    return native.Pool((images, channels, height, width), stride, taken)


_TAKEN: dict[type[nn.Module], native.Taken] = {
    nn.MaxPool2d: native.Taken.largest,
    nn.AvgPool2d: native.Taken.mean,
    nn.Identity: native.Taken.pixel,
}
_WINDOW = {"kernel_size": 3, "padding": 1, "ceil_mode": False}
_USUAL: dict[native.Taken, dict[str, object]] = {
    native.Taken.largest: {**_WINDOW, "dilation": 1, "return_indices": False},
    native.Taken.mean: {**_WINDOW, "count_include_pad": False, "divisor_override": None},
    native.Taken.pixel: {},
}


def has_listeners(module: nn.Module) -> bool:
    """Whether more happens at a module's call than its class says."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks
    listens = any(hooks) or module._backward_pre_hooks or _has_any_global_hook()
    return bool(listens) or "forward" in vars(module)


def _by_kernel(
    x: Tensor, pool: nn.Module, how: native.Pool, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, variance, *_ = apply(_NormalizedPool, x, pool, how, eps)
    return y, mean, variance


def _by_library(x: Tensor, pool: nn.Module, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    y = pool(x)
    dtype = torch.promote_types(y.dtype, torch.float32)
    mean, variance = y.new_zeros(2, y.shape[1], dtype=dtype).unbind()
    # With momentum 1 the running statistics become the batch's own.
    y = F.batch_norm(y, mean, variance, training=True, momentum=1.0, eps=eps)
    return y, mean, variance


def written_out(y: Images, eps: float) -> Images:
    """Images normalised by their batch, with derivatives of any order: the library's has two."""
    centred = y - y.mean((0, 2, 3), keepdim=True)
    return centred * (centred.square().mean((0, 2, 3), keepdim=True) + eps).rsqrt()


class _NormalizedPool(torch.autograd.Function):
    """(x, pool, how, eps) -> the fields of `native.Normalized`, derivatives of the first alone."""

    @staticmethod
    def forward(x: Tensor, pool: nn.Module, how: native.Pool, eps: float) -> native.Normalized:
        return native.normalized_pool(how, x, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: native.Normalized) -> None:
        x, ctx.pool, ctx.how, ctx.eps = inputs
        _, mean, variance, inverse, taps = output
        ctx.save_for_backward(x, output.y, inverse, taps)
        ctx.mark_non_differentiable(mean, variance, inverse)
        if taps is not None:
            ctx.mark_non_differentiable(taps)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, y, inverse, taps = ctx.saved_tensors
        upstream = gradients[0]
        if upstream is None:
            return None, None, None, None
        again = torch.is_grad_enabled()  # to be differentiated again: as a function of the images
        if not again and ctx.how.takes(y, upstream) and ctx.how.takes_kept(y, inverse, taps):
            dx = native.normalized_pool_gradient(ctx.how, upstream, y, inverse, taps)
            return dx, None, None, None
        with torch.enable_grad():
            x = x.view_as(x) if again else x.detach().requires_grad_()
            # Not its call: whoever listens to that has heard of it in the forward pass.
            expected = written_out(ctx.pool.forward(x), ctx.eps)
        (dx,) = torch.autograd.grad(expected, x, upstream, create_graph=again)
        return dx, None, None, None
