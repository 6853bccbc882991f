"""Depthwise convolutions whose derivatives run at the speed of their forward pass.

A depthwise convolution is bilinear in (input, weight), so its two gradients are bilinear too and
the three are closed under differentiation: the derivatives of each are the other two. They are
written so, once, and serve derivatives of any order.

On a CPU, oneDNN is fast at forward passes and, without dilation, at input gradients and at weight
gradients up to three columns wide: those it keeps. For the others exact rewrites stay inside what
is fast (`python -m benchmarks kernels`):

- input gradient at stride 1: the forward pass with the kernel turned by 180 degrees;
- weight gradient: three columns of the kernel at a time, on an input shifted by whole pixels;
- weight gradient at dilation d: an undilated one on the d x d interleaved grids of pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from darts_gdas.nets.formats import autocasts, channels_last

Images = Float[Tensor, "batch channels height width"]
Kernels = Float[Tensor, "channels 1 kernel_height kernel_width"]
Reduced = Float[Tensor, "batch channels out_height out_width"]

_FAST_WIDTH = 3
"""Widest kernel of oneDNN's fast weight gradient."""


def depthwise_conv2d(x: Images, weight: Kernels, *, stride: int = 1, dilation: int = 1) -> Reduced:
    """Convolve every channel with its own kernel, zero-padded to keep the size at stride 1.

    Equals `F.conv2d(x, weight, groups=channels, padding=dilation * (kernel // 2), ...)`, also in
    its derivatives of any order, in forward mode and under `torch.func` transforms.

    Args:
        x: Images.
        weight: One kernel per channel, with odd height and width.
        stride: Height and width are divided by it, rounding up.
        dilation: Distance of neighbouring taps in pixels.
    """
    return depthwise_convs(x, [weight], stride=stride, dilation=dilation)[0]


def depthwise_convs(
    x: Images, weights: Sequence[Kernels], *, stride: int = 1, dilation: int = 1
) -> list[Reduced]:
    """The same images convolved with several sets of kernels: what is shared is done once."""
    height, width = weights[0].shape[2:]
    assert height % 2 and width % 2, "kernels have odd sides"
    if dilation > 1 and stride % dilation == 0:  # all taps read the same sub-grid of pixels
        x = channels_last(x[:, :, ::dilation, ::dilation])
        stride, dilation = stride // dilation, 1
    if autocasts(x.device):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weights = x.to(dtype), [weight.to(dtype) for weight in weights]
    geometry = Geometry(tuple(x.shape[2:]), tuple(weights[0].shape[2:]), stride, dilation)
    is_fast = x.device.type != "cpu" or (
        dilation == 1 and (stride > 1 or weights[0].shape[3] <= _FAST_WIDTH)
    )
    if is_fast or torch.compiler.is_compiling():  # which cannot trace forward-mode derivatives
        return list(_Convolutions.forward(geometry, x, *weights))
    return list(_run(_Convolutions, geometry, x, *weights))


class Depthwise(nn.Conv2d):
    """A depthwise convolution as a module: `nn.Conv2d` in everything but its derivatives' speed."""

    def __init__(self, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        padding, groups = dilation * (kernel // 2), channels
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups, bias=False)

    def forward(self, input: Images) -> Reduced:
        """The same function as `nn.Conv2d.forward`."""
        stride, dilation = self.stride[0], self.dilation[0]
        return depthwise_conv2d(input, self.weight, stride=stride, dilation=dilation)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Height and width of the images and of the kernels, and how these move over those."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int
    dilation: int

    @property
    def padding(self) -> tuple[int, int]:
        """What keeps the size at stride 1."""
        return self.dilation * (self.kernel[0] // 2), self.dilation * (self.kernel[1] // 2)


def _run(operation: type[torch.autograd.Function], *inputs: Any) -> Any:
    """The operation; without what makes it differentiable where nobody asks for that."""
    return operation.apply(*inputs) if torch.is_grad_enabled() else operation.forward(*inputs)


class _Convolutions(torch.autograd.Function):
    """(x, w_e) -> y_e with y_e(p) = sum over taps t of x(stride p + dilation t) w_e(t)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(geometry: Geometry, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        stride, padding, dilation = geometry.stride, geometry.padding, geometry.dilation
        return tuple(F.conv2d(x, w, None, stride, padding, dilation, len(w)) for w in weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.geometry, x, *weights = inputs
        _, needs_x, *needs_weights = ctx.needs_input_grad
        ctx.save_for_backward(
            x if any(needs_weights) else None, *(weights if needs_x else [None] * len(weights))
        )
        ctx.save_for_forward(x, *weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        dx, dweights = None, [None] * len(weights)
        if weights[0] is not None:
            dx = _run(_InputGradient, ctx.geometry, *gradients, *weights)
        if x is not None:
            dweights = _run(_WeightGradients, ctx.geometry, x, *gradients)
        return None, dx, *dweights

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor | None) -> tuple[Tensor, ...]:
        _, *tangents = grad_inputs
        return _product_rule(_Convolutions, ctx.geometry, ctx.saved_tensors, tangents, 1)


class _InputGradient(torch.autograd.Function):
    """(g_e, w_e) -> the sum over e of the transposed convolutions of g_e with w_e."""

    generate_vmap_rule = True

    @staticmethod
    def forward(geometry: Geometry, *tensors: Tensor) -> Tensor:
        stride, padding, dilation = geometry.stride, geometry.padding, geometry.dilation
        library: Any = conv2d_input  # its annotations do not know of two paddings
        parts = (
            F.conv2d(g, w.flip(2, 3), None, 1, padding, dilation, len(w))
            if stride == 1 and g.device.type == "cpu"
            else library((*g.shape[:2], *geometry.size), w, g, stride, padding, dilation, len(w))
            for g, w in zip(*_halves(tensors), strict=True)
        )
        return reduce(torch.add, parts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.geometry, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (doubled,) = grad_outputs
        gradients, weights = _halves(ctx.saved_tensors)
        dgradients = _run(_Convolutions, ctx.geometry, doubled, *weights)
        dweights = _run(_WeightGradients, ctx.geometry, doubled, *gradients)
        return None, *dgradients, *dweights

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor | None) -> Tensor:
        _, *tangents = grad_inputs
        half = len(tangents) // 2
        return _product_rule(_InputGradient, ctx.geometry, ctx.saved_tensors, tangents, half)


class _WeightGradients(torch.autograd.Function):
    """(x, g_e) -> w_e with w_e(t) = sum over p of x(stride p + dilation t) g_e(p)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(geometry: Geometry, x: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        kernel, stride, dilation = geometry.kernel, geometry.stride, geometry.dilation
        slow = dilation > 1 and stride > 1
        if x.device.type != "cpu" or slow or x.shape[3] < dilation * kernel[1]:
            padding = geometry.padding
            return tuple(
                _library_gradient(x, g, kernel, stride, padding, dilation) for g in gradients
            )
        if dilation > 1:
            x = _interleaved(x, dilation)
            gradients = tuple(_interleaved(g, dilation) for g in gradients)
        top, left = kernel[0] // 2, kernel[1] // 2
        if kernel[1] <= _FAST_WIDTH:
            return tuple(_library_gradient(x, g, kernel, stride, (top, left)) for g in gradients)
        rows = top if x.shape[2] < kernel[0] else 0  # a kernel taller than its image is slow, too
        parts: list[list[Tensor]] = [[] for _ in gradients]
        for first in range(0, kernel[1], _FAST_WIDTH):
            columns = left - first, left - kernel[1] + first + _FAST_WIDTH
            window = _resized(x, *columns, rows)
            size = (kernel[0], _FAST_WIDTH)
            for part, g in zip(parts, gradients, strict=True):
                taps = _library_gradient(window, g, size, stride, (top - rows, 0))
                part.append(taps[..., : kernel[1] - first])
        return tuple(torch.cat(part, dim=3) for part in parts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.geometry, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *doubled: Tensor) -> tuple[Tensor | None, ...]:
        x, *gradients = ctx.saved_tensors
        dx = _run(_InputGradient, ctx.geometry, *gradients, *doubled)
        dgradients = _run(_Convolutions, ctx.geometry, x, *doubled)
        return None, dx, *dgradients

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor | None) -> tuple[Tensor, ...]:
        _, *tangents = grad_inputs
        return _product_rule(_WeightGradients, ctx.geometry, ctx.saved_tensors, tangents, 1)


def _product_rule(
    operation: type[torch.autograd.Function],
    geometry: Geometry,
    tensors: Sequence[Tensor],
    tangents: Sequence[Tensor | None],
    split: int,
) -> Any:
    """The derivative of what is linear in its first `split` tensors and in the others."""
    moved = [
        torch.zeros_like(t) if d is None else d for t, d in zip(tensors, tangents, strict=True)
    ]
    first = _run(operation, geometry, *moved[:split], *tensors[split:])
    second = _run(operation, geometry, *tensors[:split], *moved[split:])
    if isinstance(first, Tensor):
        return first + second
    return tuple(a + b for a, b in zip(first, second, strict=True))


def _halves(tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    return tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]


def _resized(x: Tensor, left: int, right: int, rows: int) -> Tensor:
    """Columns of zeros added on both sides, or taken away where negative, and rows added."""
    if rows:
        return F.pad(x, (left, right, rows, rows))
    parts = [x[..., max(-left, 0) : x.shape[3] - max(-right, 0)]]
    if left > 0:
        parts.insert(0, _zeros(x, left))
    if right > 0:
        parts.append(_zeros(x, right))
    return torch.cat(parts, dim=3)  # one pass, where F.pad takes two


def _zeros(x: Tensor, width: int) -> Tensor:
    batch, channels, height, _ = x.shape
    return x.new_zeros(batch, height, width, channels).permute(0, 3, 1, 2)


def _library_gradient(
    x: Tensor,
    gradient: Tensor,
    kernel: Sequence[int],
    stride: int,
    padding: tuple[int, int],
    dilation: int = 1,
) -> Tensor:
    channels = x.shape[1]
    shape = (channels, 1, *kernel)
    library: Any = conv2d_weight  # its annotations do not know of two paddings
    return library(x, shape, gradient, stride, padding, dilation, channels)


def _interleaved(x: Tensor, step: int) -> Tensor:
    """The step x step grids of every step-th pixel, below each other in the batch dimension."""
    x = F.pad(x, (0, -x.shape[3] % step, 0, -x.shape[2] % step))
    height, width = x.shape[2:]
    grids = x.permute(0, 2, 3, 1).unflatten(2, (width // step, step))
    grids = grids.unflatten(1, (height // step, step))  # [batch, rows, step, columns, step, c]
    grids = grids.permute(2, 4, 0, 1, 3, 5).flatten(0, 2)  # one copy
    return grids.permute(0, 3, 1, 2)
