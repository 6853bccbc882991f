"""Depthwise convolutions whose derivatives run at the speed of their forward pass.

A depthwise convolution is bilinear in (input, weight), so its two gradients are bilinear too and
the three are closed under differentiation: the derivatives of each are the other two. They are
written so, once, and serve derivatives of any order.

What computes the three is said in `nets.depthwise_products`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import darts_gdas.native as native
from darts_gdas.nets.depthwise_products import (
    FAST_WIDTH,
    Geometry,
    input_gradient,
    outputs,
    weight_gradients,
)
from darts_gdas.nets.formats import autocasts, channels_last
from darts_gdas.nets.functions import apply
from darts_gdas.nets.pixels import every

Images = Float[Tensor, "batch channels height width"]
Kernels = Float[Tensor, "channels 1 kernel_height kernel_width"]
Reduced = Float[Tensor, "batch channels out_height out_width"]


def depthwise_conv2d(
    x: Images,
    weight: Kernels,
    *,
    stride: int = 1,
    dilation: int = 1,
    relu: Callable[[], Images] | None = None,
) -> Reduced:
    """Convolve every channel with its own kernel, zero-padded to keep the size at stride 1.

    Equals `F.conv2d(x, weight, groups=channels, padding=dilation * (kernel // 2), ...)`, also in
    its derivatives of any order, in forward mode and under `torch.func` transforms.

    Args:
        x: Images.
        weight: One kernel per channel, with odd height and width.
        stride: Height and width are divided by it, rounding up.
        dilation: Distance of neighbouring taps in pixels.
        relu: Makes the ReLU of the images, which is convolved in their place. It is asked for it
            where the kernels do not take it themselves as they read the images.
    """
    return depthwise_convs(x, [weight], stride=stride, dilation=dilation, relu=relu)[0]


def depthwise_convs(
    x: Images,
    weights: Sequence[Kernels],
    *,
    stride: int = 1,
    dilation: int = 1,
    relu: Callable[[], Images] | None = None,
) -> list[Reduced]:
    """The same images convolved with several sets of kernels: what is shared is done once."""
    height, width = weights[0].shape[2:]
    assert height % 2 and width % 2, "kernels have odd sides"
    if dilation > 1 and stride % dilation == 0:  # all taps read the same sub-grid of pixels
        if relu is not None and not native.usable(x):
            x, relu = relu(), None
        x = channels_last(every(x, dilation))
        stride, dilation, relu = stride // dilation, 1, relu and partial(F.relu, x)
    size = x.shape[2], x.shape[3]
    geometry = Geometry(size, (height, width), stride, dilation)
    is_slow = x.is_cpu and stride == 1 and (dilation > 1 or width > FAST_WIDTH)
    casts = autocasts(x.device)
    is_native = not casts and geometry.for_images(x).takes(x, weights, ())
    if relu is not None:
        if is_native:
            return list(apply(_Convolutions, replace(geometry, rectified=True), x, *weights))
        x = relu()
    if not (is_slow or is_native) or torch.compiler.is_compiling():  # no forward-mode derivatives
        return [F.conv2d(x, w, None, stride, geometry.padding, dilation, len(w)) for w in weights]
    if casts:
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weights = x.to(dtype), [weight.to(dtype) for weight in weights]
    return list(apply(_Convolutions, geometry, x, *weights))


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


class _Multilinear(torch.autograd.Function):
    """An operation on (geometry, tensors) whose derivatives need all of its tensors."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.geometry, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)


class _Convolutions(torch.autograd.Function):
    """(x, w_e) -> y_e, the outputs; of rectified images without a ReLU that is kept.

    The second is for plain backward passes: it has no tangents and no place in transforms.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(geometry: Geometry, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        return tuple(outputs(geometry, x, weights))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.geometry, x, *weights = inputs
        ctx.set_materialize_grads(False)  # an output that nobody used leaves its weights alone
        _, needs_x, *needs_weights = ctx.needs_input_grad
        ctx.needed = needs_x, any(needs_weights)
        ctx.save_for_backward(
            x if ctx.needed[1] or ctx.geometry.rectified else None,
            *(weights if needs_x else [None] * len(weights)),
        )
        ctx.save_for_forward(x, *weights)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        used = [i for i, g in enumerate(upstream) if g is not None]
        arrived = [g for g in upstream if g is not None]
        through = [weights[i] for i in used if ctx.needed[0]]
        found: list[Tensor | None] = [None] * len(ctx.needs_input_grad)
        if not used:
            return tuple(found)
        found[1], reached = _gradients(ctx.geometry, arrived, through, x, ctx.needed)
        for i, gradient in zip(used if ctx.needed[1] else (), reached, strict=True):
            found[2 + i] = gradient
        return tuple(found)

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor | None) -> tuple[Tensor, ...]:
        return _product_rule(_Convolutions, ctx, grad_inputs[1:], 1)


def _gradients(
    geometry: Geometry,
    upstream: Sequence[Tensor],
    weights: Sequence[Tensor],
    x: Tensor | None,
    needed: tuple[bool, bool],
) -> tuple[Tensor | None, Sequence[Tensor]]:
    """Both gradients, or the one that is needed: of the images, and of each set of kernels.

    In one pass where they are not to be differentiated again and there is a kernel.

    Args:
        geometry: The convolution.
        upstream: Gradients of the outputs.
        weights: The sets of kernels, which the images' gradient depends on.
        x: The images, which the others depend on and, if they are rectified, this one.
        needed: Whether the images', and whether the weights' are asked for.
    """
    how = geometry.for_images(upstream[0])
    first = upstream[0] if x is None else x
    if not torch.is_grad_enabled() and how.takes(first, weights, upstream):
        return native.depthwise_gradients(how, upstream, weights, x, of_weights=needed[1])
    plain, dx = replace(geometry, rectified=False), None
    if needed[0]:
        dx = apply(_InputGradient, plain, *upstream, *weights)
        if geometry.rectified:
            dx = torch.ops.aten.threshold_backward(dx, x, 0)
    if x is None or not needed[1]:
        return dx, ()
    return dx, apply(_WeightGradients, plain, F.relu(x) if geometry.rectified else x, *upstream)


class _InputGradient(_Multilinear):
    """(g_e, w_e) -> the sum over e of the transposed convolutions of g_e with w_e."""

    @staticmethod
    def forward(geometry: Geometry, *tensors: Tensor) -> Tensor:
        return input_gradient(geometry, *_halves(tensors))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (doubled,) = grad_outputs
        gradients, weights = _halves(ctx.saved_tensors)
        dgradients = apply(_Convolutions, ctx.geometry, doubled, *weights)
        dweights = apply(_WeightGradients, ctx.geometry, doubled, *gradients)
        return None, *dgradients, *dweights

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor | None) -> Tensor:
        return _product_rule(_InputGradient, ctx, grad_inputs[1:], len(grad_inputs) // 2)


class _WeightGradients(_Multilinear):
    """(x, g_e) -> w_e, what reaches the kernels."""

    @staticmethod
    def forward(geometry: Geometry, x: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        return weight_gradients(geometry, x, gradients)

    @staticmethod
    def backward(ctx: Any, *doubled: Tensor) -> tuple[Tensor | None, ...]:
        x, *gradients = ctx.saved_tensors
        dx = apply(_InputGradient, ctx.geometry, *gradients, *doubled)
        dgradients = apply(_Convolutions, ctx.geometry, x, *doubled)
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
    first = apply(operation, ctx.geometry, *moved[:split], *tensors[split:])
    second = apply(operation, ctx.geometry, *tensors[:split], *moved[split:])
    if isinstance(first, Tensor):
        return first + second
    return tuple(a + b for a, b in zip(first, second, strict=True))


def _halves(tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    return tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]
