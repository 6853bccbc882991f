"""Depthwise convolutions whose derivatives run at the speed of their forward pass.

A depthwise convolution is bilinear in (input, weight), so its two gradients are bilinear too and
the three are closed under differentiation: the derivatives of each are the other two. They are
written so, once, and serve derivatives of any order.

On a CPU, oneDNN is fast at forward passes and, without dilation, at input gradients and at weight
gradients up to three columns wide: those it keeps. For the others exact rewrites stay inside what
is fast (`python -m benchmarks kernels`):

- input gradient: the forward pass with the kernel turned by 180 degrees;
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
from torch.nn.grad import conv2d_weight

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
    is_slow = x.is_cpu and stride == 1 and (dilation > 1 or width > _FAST_WIDTH)
    if not is_slow or torch.compiler.is_compiling():  # which cannot trace forward-mode derivatives
        padding = _padding(weights[0].shape, dilation)
        return [F.conv2d(x, w, None, stride, padding, dilation, len(w)) for w in weights]
    if autocasts(x.device):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weights = x.to(dtype), [weight.to(dtype) for weight in weights]
    return list(_run(_Convolutions, Geometry((height, width), dilation), x, *weights))


class Depthwise(nn.Conv2d):
    """A depthwise convolution as a module: `nn.Conv2d` in everything but its derivatives' speed."""

    def __init__(self, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        padding, groups = dilation * (kernel // 2), channels
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups, bias=False)

    def forward(self, input: Images) -> Reduced:
        """The same function as `nn.Conv2d.forward`."""
        stride, dilation = self.stride[0], self.dilation[0]
        return depthwise_conv2d(input, self.weight, stride=stride, dilation=dilation)


def make_plain(network: nn.Module) -> None:
    """Turn the depthwise convolutions into `nn.Conv2d`, for tools that go by a layer's class.

    The function, the weights and the hooks stay. On a CPU the gradients of wide and of dilated
    kernels then take the library's time.
    """
    for module in network.modules():
        if type(module) is Depthwise:
            module.__class__ = nn.Conv2d  # type: ignore[assignment]


def by_patches(conv: nn.Conv2d, input: Images) -> Reduced:
    """What a depthwise convolution is, as a product with the patches under its kernels.

    In float64 a CPU convolves group by group, forwards and backwards
    (`findings/double_precision_convolves_group_by_group.sh`); this is two calls, and memory for as
    many images as a kernel has taps.

    Args:
        conv: Without bias, zero-padded by numbers.
        input: Images.
    """
    padding: Any = conv.padding
    patches = F.unfold(input, conv.kernel_size, conv.dilation, padding, conv.stride)
    patches = patches.unflatten(1, (conv.in_channels, -1))
    rows = input.shape[2] + 2 * padding[0] - conv.dilation[0] * (conv.kernel_size[0] - 1) - 1
    size = rows // conv.stride[0] + 1, -1
    return (conv.weight.flatten(1)[:, None] @ patches).squeeze(2).unflatten(2, size)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Height and width of the kernels, and the distance of their taps; the stride is 1."""

    kernel: tuple[int, int]
    dilation: int


def _run(operation: type[torch.autograd.Function], *inputs: Any) -> Any:
    """The operation; without what makes it differentiable where nobody asks for that."""
    return operation.apply(*inputs) if torch.is_grad_enabled() else operation.forward(*inputs)


class _Multilinear(torch.autograd.Function):
    """An operation on (geometry, tensors) whose derivatives need all of its tensors."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.geometry, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)


class _Convolutions(torch.autograd.Function):
    """(x, w_e) -> y_e with y_e(p) = sum over taps t of x(p + dilation t) w_e(t)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(geometry: Geometry, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        return tuple(_same_size(x, w, geometry.dilation) for w in weights)

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
        return _product_rule(_Convolutions, ctx, grad_inputs[1:], 1)


class _InputGradient(_Multilinear):
    """(g_e, w_e) -> the sum over e of the transposed convolutions of g_e with w_e."""

    @staticmethod
    def forward(geometry: Geometry, *tensors: Tensor) -> Tensor:
        pairs = zip(*_halves(tensors), strict=True)
        return reduce(torch.add, (_same_size(g, w.flip(2, 3), geometry.dilation) for g, w in pairs))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (doubled,) = grad_outputs
        gradients, weights = _halves(ctx.saved_tensors)
        dgradients = _run(_Convolutions, ctx.geometry, doubled, *weights)
        dweights = _run(_WeightGradients, ctx.geometry, doubled, *gradients)
        return None, *dgradients, *dweights

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor | None) -> Tensor:
        return _product_rule(_InputGradient, ctx, grad_inputs[1:], len(grad_inputs) // 2)


class _WeightGradients(_Multilinear):
    """(x, g_e) -> w_e with w_e(t) = sum over p of x(p + dilation t) g_e(p)."""

    @staticmethod
    def forward(geometry: Geometry, x: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        kernel, dilation = geometry.kernel, geometry.dilation
        if x.shape[3] < dilation * kernel[1]:  # too narrow to shift
            padding = _padding(kernel, dilation)
            return tuple(_library_gradient(x, g, kernel, padding, dilation) for g in gradients)
        if dilation > 1:
            x = _interleaved(x, dilation)
            gradients = tuple(_interleaved(g, dilation) for g in gradients)
        top, left = _padding(kernel, 1)
        if kernel[1] <= _FAST_WIDTH:
            return tuple(_library_gradient(x, g, kernel, (top, left)) for g in gradients)
        rows = top if x.shape[2] < kernel[0] else 0  # a kernel taller than its image is slow, too
        parts: list[list[Tensor]] = [[] for _ in gradients]
        for first in range(0, kernel[1], _FAST_WIDTH):
            columns = left - first, left - kernel[1] + first + _FAST_WIDTH
            window = _resized(x, *columns, rows)
            size = (kernel[0], _FAST_WIDTH)
            for part, g in zip(parts, gradients, strict=True):
                taps = _library_gradient(window, g, size, (top - rows, 0))
                part.append(taps[..., : kernel[1] - first])
        return tuple(torch.cat(part, dim=3) for part in parts)

    @staticmethod
    def backward(ctx: Any, *doubled: Tensor) -> tuple[Tensor | None, ...]:
        x, *gradients = ctx.saved_tensors
        dx = _run(_InputGradient, ctx.geometry, *gradients, *doubled)
        dgradients = _run(_Convolutions, ctx.geometry, x, *doubled)
        return None, dx, *dgradients

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor | None) -> tuple[Tensor, ...]:
        return _product_rule(_WeightGradients, ctx, grad_inputs[1:], 1)


def _product_rule(
    operation: type[torch.autograd.Function],
    ctx: Any,
    tangents: Sequence[Tensor | None],
    split: int,
) -> Any:
    """The derivative of what is linear in its first `split` tensors and in the others."""
    tensors = ctx.saved_tensors
    moved = [
        torch.zeros_like(t) if d is None else d for t, d in zip(tensors, tangents, strict=True)
    ]
    first = _run(operation, ctx.geometry, *moved[:split], *tensors[split:])
    second = _run(operation, ctx.geometry, *tensors[:split], *moved[split:])
    if isinstance(first, Tensor):
        return first + second
    return tuple(a + b for a, b in zip(first, second, strict=True))


def _same_size(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """The library's forward pass at stride 1."""
    return F.conv2d(x, weight, None, 1, _padding(weight.shape, dilation), dilation, len(weight))


def _padding(kernel: Sequence[int], dilation: int) -> tuple[int, int]:
    """What keeps the size at stride 1, from a shape that ends in a kernel's."""
    height, width = kernel[-2:]
    return dilation * (height // 2), dilation * (width // 2)


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
    padding: tuple[int, int],
    dilation: int = 1,
) -> Tensor:
    channels = x.shape[1]
    library: Any = conv2d_weight  # its annotations do not know of two paddings
    return library(x, (channels, 1, *kernel), gradient, 1, padding, dilation, channels)


def _interleaved(x: Tensor, step: int) -> Tensor:
    """The step x step grids of every step-th pixel, below each other in the batch dimension."""
    x = F.pad(x, (0, -x.shape[3] % step, 0, -x.shape[2] % step))
    height, width = x.shape[2:]
    grids = x.permute(0, 2, 3, 1).unflatten(2, (width // step, step))
    grids = grids.unflatten(1, (height // step, step))  # [batch, rows, step, columns, step, c]
    grids = grids.permute(2, 4, 0, 1, 3, 5).flatten(0, 2)  # one copy
    return grids.permute(0, 3, 1, 2)
