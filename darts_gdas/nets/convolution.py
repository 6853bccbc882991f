"""Dense convolutions of 3x3 pixels as a supernet uses them.

On plain tensors of a CPU they are a kernel in C++ (`native`), where that can be built and is
faster. Elsewhere they are the library's.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

import darts_gdas.native as native
from darts_gdas.nets.formats import autocasts, without_autocast
from darts_gdas.nets.functions import apply
from darts_gdas.nets.pooling import has_listeners

Images = Float[Tensor, "batch channels height width"]
Kernels = Float[Tensor, "out_channels channels 3 3"]
Convolved = Float[Tensor, "batch out_channels height width"]


def conv2d(x: Images, weight: Kernels) -> Convolved:
    """`F.conv2d(x, weight, padding=1)`, also in its derivatives of any order and in every mode."""
    return conv2ds(x, [weight])[0]


def conv2ds(
    x: Images, weights: Sequence[Kernels], *, relu: Callable[[], Images] | None = None
) -> list[Convolved]:
    """The same images convolved with several sets of kernels, see `conv2d`.

    Args:
        x: Images.
        weights: The sets.
        relu: Makes the ReLU of the images, which is convolved in their place. It is asked for it
            where the kernels do not take it themselves as they read the images.
    """
    how = _kernel(x, weights, relu is not None)
    if how is not None:
        return [*apply(_Convolution, how, x, *weights)]
    if len(weights) > 1:
        return [y for weight in weights for y in conv2ds(x, [weight], relu=relu)]
    return [F.conv2d(relu() if relu else x, weights[0], None, 1, 1)]


def convolved(
    convs: Sequence[nn.Conv2d], x: Images, *, relu: Callable[[], Images] | None = None
) -> list[Tensor]:
    """`conv(x)` of each, all of one shape; of the images' ReLU where something makes it."""
    is_plain = all(type(conv) is nn.Conv2d and not has_listeners(conv) for conv in convs)
    if is_plain and all(_is_faster(conv, x) for conv in convs):
        return conv2ds(x, [conv.weight for conv in convs], relu=relu)
    return [conv(relu() if relu else x) for conv in convs]


class DenseConv(nn.Conv2d):
    """A convolution of a block that a supernet holds and does not search."""

    def _conv_forward(self, input: Any, weight: Any, bias: Tensor | None) -> Any:
        if _is_faster(self, input):
            return conv2d(input, weight)
        return super()._conv_forward(input, weight, bias)


def use_kernels(block: nn.Module) -> None:
    """Let the convolutions of a block that a kernel may take ask for it at each call."""
    for module in block.modules():
        if type(module) is nn.Conv2d and _is_usual(module):
            module.__class__ = DenseConv  # weights, hooks and settings stay as they are


_USUAL: dict[str, object] = {
    "kernel_size": (3, 3),
    "stride": (1, 1),
    "padding": (1, 1),
    "dilation": (1, 1),
    "groups": 1,
    "padding_mode": "zeros",
    "bias": None,
}
WIDTHS = range(16, 129, 16)
"""Numbers of channels, of both sides, for which the kernels are faster than oneDNN.

Measured on an EPYC of Zen 3 (AVX2), one thread, 64 images of 4x4 to 32x32: 1.5 to 2 times by
themselves, with the gradients too (80, 112 and 128 in part; through autograd, docs/benchmarks.md);
beside them, at 8, 12, 24, 36 and 40, from 0.7 to 1.3 times.
"""
LEAST_PIXELS = 1024
"""Of all images together: with fewer, the call and the transform of the weights outweigh it."""


def _is_faster(conv: nn.Conv2d, x: Any) -> bool:
    """Also asked by traces and compilers, whose stand-ins for images have no sizes."""
    if native.recorded() or not isinstance(x, Tensor):
        return False
    return _is_usual(conv) and x.numel() >= LEAST_PIXELS * conv.in_channels


def _is_usual(conv: nn.Conv2d) -> bool:
    is_wide = conv.in_channels in WIDTHS and conv.out_channels in WIDTHS
    is_usual = all(getattr(conv, name) == value for name, value in _USUAL.items())
    return is_wide and is_usual and "_conv_forward" not in vars(conv)


def _kernel(
    x: Tensor, weights: Sequence[Tensor], rectified: bool
) -> native.DenseConvolution | None:
    """What computes convolutions together, if it is in C++."""
    if x.dim() != 4 or autocasts(x.device):
        return None
    images, channels, height, width = x.shape
    shape, out = (images, channels, height, width), weights[0].shape[0]
    how = native.DenseConvolution(shape, out, len(weights), rectified)
    return how if how.takes(x, weights, ()) else None


class _Convolution(torch.autograd.Function):
    """(how, x, *weights) -> the outputs of each set."""

    @staticmethod
    def forward(how: native.DenseConvolution, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        return tuple(native.convolve(how, x, weights))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.how, x, *weights = inputs
        _, needs_x, *needs_weights = ctx.needs_input_grad
        ctx.of_weights = any(needs_weights)
        needs_images = ctx.of_weights or ctx.how.rectified
        kept = weights if needs_x else [None] * len(weights)
        ctx.save_for_backward(x if needs_images else None, *kept)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        reached = [i for i, g in enumerate(gradients) if g is not None]  # others play no part
        upstream = [g for g in gradients if g is not None]
        needed = [weights[i] for i in reached if weights[i] is not None]
        if not upstream:
            return None, None, *gradients
        how = ctx.how._replace(sets=len(reached))
        # The images' layout is what the kernels ask of: a copy of the gradients is little.
        first = upstream[0] if x is None else x
        if not torch.is_grad_enabled() and how.takes(first, needed, upstream):
            dx, found = native.convolution_gradients(
                how, upstream, needed, x, of_weights=ctx.of_weights
            )
        else:
            with without_autocast(first.device):
                dx, found = _by_library(how, upstream, needed, x, ctx.of_weights)
        dweights = dict(zip(reached, found, strict=bool(found)))
        return None, dx, *(dweights.get(i) for i in range(len(gradients)))


def _by_library(
    how: native.DenseConvolution,
    upstream: Sequence[Tensor],
    weights: Sequence[Tensor],
    x: Tensor | None,
    of_weights: bool,
) -> tuple[Tensor | None, list[Tensor]]:
    """All gradients, or those that are asked for, as functions that have derivatives."""
    pairs = zip(weights, upstream, strict=bool(weights))
    parts = [F.conv_transpose2d(g, weight, None, 1, 1) for weight, g in pairs]
    dx = torch.stack(parts).sum(0) if parts else None
    if dx is not None and how.rectified:
        dx = torch.ops.aten.threshold_backward(dx, x, 0)
    if x is None or not of_weights:
        return dx, []
    read = F.relu(x) if how.rectified else x
    return dx, [conv2d_weight(read, how.weights, g, 1, 1) for g in upstream]
