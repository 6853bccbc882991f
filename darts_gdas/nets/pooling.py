"""Pooled images that are normalised by their batch, as a supernet uses them.

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
    how = _known(pool, x)
    if how is None or autocasts(x.device) or not how.takes(x):
        return _by_library(x, pool, eps)
    if torch.is_grad_enabled() and x.requires_grad:
        y, mean, variance, *_ = _NormalizedPool.apply(x, pool, how, eps)
    else:
        y, mean, variance, *_ = native.normalized_pool(how, x, eps)
    return y, mean, variance


def _known(pool: nn.Module, x: Tensor) -> native.Pool | None:
    """The pooling, if it is of those that candidates use and nobody watches or replaces it."""
    largest = type(pool) is nn.MaxPool2d
    if not largest and type(pool) is not nn.AvgPool2d:
        return None
    hooks = pool._forward_hooks, pool._forward_pre_hooks, pool._backward_hooks
    if any(hooks) or pool._backward_pre_hooks or _has_any_global_hook() or "forward" in vars(pool):
        return None
    stride = pool.stride
    expected: dict[str, object] = {"kernel_size": 3, "padding": 1, "ceil_mode": False}
    if largest:
        expected |= {"dilation": 1, "return_indices": False}
    else:
        expected |= {"count_include_pad": False, "divisor_override": None}
    is_usual = all(getattr(pool, name) == value for name, value in expected.items())
    if x.dim() != 4 or not isinstance(stride, int) or stride not in (1, 2) or not is_usual:
        return None
    images, channels, height, width = x.shape
    return native.Pool((images, channels, height, width), stride, largest)


def _by_library(x: Tensor, pool: nn.Module, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    y = pool(x)
    dtype = torch.promote_types(y.dtype, torch.float32)
    mean, variance = y.new_zeros(2, y.shape[1], dtype=dtype).unbind()
    # With momentum 1 the running statistics become the batch's own.
    y = F.batch_norm(y, mean, variance, training=True, momentum=1.0, eps=eps)
    return y, mean, variance


def _written_out(y: Tensor, eps: float) -> Tensor:
    """The norm, with derivatives of any order: the library's has two."""
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
        if not again and ctx.how.takes(y, upstream):
            dx = native.normalized_pool_gradient(ctx.how, upstream, y, inverse, taps)
            return dx, None, None, None
        with torch.enable_grad():
            x = x.view_as(x) if again else x.detach().requires_grad_()
            expected = _written_out(ctx.pool(x), ctx.eps)
        (dx,) = torch.autograd.grad(expected, x, upstream, create_graph=again)
        return dx, None, None, None
