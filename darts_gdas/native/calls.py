"""Calls of the C++ kernels with tensors."""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from darts_gdas.native.build import library

SIDES = (3, 5, 7)
"""Of square depthwise kernels."""

LANES = 4
"""Numbers of channels are multiples of it."""

_NO_MEMORY = 1


def usable(*tensors: Tensor) -> bool:
    """Whether kernels may read these tensors: plain ones of one float format on a CPU.

    Not under transforms, forward-mode derivatives, modes that watch operations, or a compiler or
    trace that records them.
    """
    dtype = tensors[0].dtype
    if dtype is not torch.float32 and dtype is not torch.float64:
        return False
    if torch.compiler.is_compiling() or torch._C._is_tracing() or _watched():
        return False
    return all(_is_plain(t, dtype) for t in tensors) and library() is not None


def _is_plain(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether a tensor's numbers are what lies at its address."""
    transforms = torch._C._functorch  # type: ignore[attr-defined]
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.dtype is dtype
        and x.is_cpu
        and x.layout is torch.strided
        and not x.is_neg()
        and not x._is_zerotensor()
        and not transforms.is_functorch_wrapped_tensor(x)
        and not transforms.is_legacy_batchedtensor(x)
    )


def _watched() -> bool:
    """Whether operations mean more than their results."""
    transforms = torch._C._functorch  # type: ignore[attr-defined]
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or transforms.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


class Convolution(NamedTuple):
    """A depthwise convolution that pads with zeros to keep the size at stride 1.

    Attributes:
        images: Shape of the images, [images, channels, height, width].
        kernel: Height and width of the kernels; both one of `SIDES`.
        stride: Height and width are divided by it, rounding up.
        dilation: Distance of neighbouring taps in pixels.
    """

    images: tuple[int, int, int, int]
    kernel: tuple[int, int]
    stride: int = 1
    dilation: int = 1

    def takes(self, images: Tensor, weights: Sequence[Tensor], reduced: Sequence[Tensor]) -> bool:
        """Whether it can be computed in C++, for what of the three there is.

        Args:
            images: What is read first: images, or the first of the gradients.
            weights: Sets of kernels.
            reduced: Images of the outputs' shape.
        """
        channels, height, width = self.images[1:]
        side = self.kernel[0]
        margin = self.dilation * (side // 2)
        kernels = channels, 1, side, side
        return (
            self.kernel == (side, side)
            and side in SIDES
            and channels % LANES == 0
            and 0 not in self.images
            and images.shape in (self.images, self.reduced)
            and margin <= max(height, width)  # else most of a frame is zeros
            and all(w.shape == kernels for w in weights)
            and all(y.shape == self.reduced for y in reduced)
            and usable(images, *weights, *reduced)
            and images.is_contiguous(memory_format=torch.channels_last)
        )

    @property
    def reduced(self) -> tuple[int, int, int, int]:
        """Shape of the outputs."""
        images, channels, height, width = self.images
        return images, channels, -(-height // self.stride), -(-width // self.stride)


def convolve_depthwise(how: Convolution, x: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """The same images convolved with several sets of kernels [channels, 1, side, side]."""
    outputs = [_images(how.reduced, x) for _ in weights]
    _depthwise(0, how, [_side_by_side(x)], [w.contiguous() for w in weights], outputs)
    return outputs


def depthwise_input_gradient(
    how: Convolution, gradients: Sequence[Tensor], weights: Sequence[Tensor]
) -> Tensor:
    """The sum over the sets of kernels of what reaches the images."""
    found = _images(how.images, gradients[0])
    parts = [_side_by_side(g) for g in gradients]
    _depthwise(1, how, parts, [w.contiguous() for w in weights], [found])
    return found


def depthwise_weight_gradients(
    how: Convolution, x: Tensor, gradients: Sequence[Tensor]
) -> list[Tensor]:
    """What reaches each set of kernels."""
    shape = how.images[1], 1, *how.kernel
    found = [x.new_empty(shape) for _ in gradients]
    _depthwise(2, how, [_side_by_side(x)], [_side_by_side(g) for g in gradients], found)
    return found


def _depthwise(
    what: int,
    how: Convolution,
    left: Sequence[Tensor],
    right: Sequence[Tensor],
    out: Sequence[Tensor],
) -> None:
    images, channels, height, width = how.images
    geometry = (
        images,
        height,
        width,
        channels,
        *how.reduced[2:],
        how.kernel[0],
        how.stride,
        how.dilation,
    )
    edges = max(len(right), len(out))
    sizes = _sizes(out[0].itemsize, torch.get_num_threads(), edges, *geometry)
    _check(_kernels().depthwise(what, sizes, _pointers(left), _pointers(right), _pointers(out)))


def takes_sums(
    pointwise: Tensor, scale: Tensor, inputs: Sequence[Tensor], others: Sequence[Tensor]
) -> bool:
    """Whether `normalized_sum` can be computed in C++.

    Args:
        pointwise: Matrices [terms, edges, out_channels, channels].
        scale: Weights [terms + features, edges].
        inputs: Images, term after term: one edge each, all of one shape, in whole vectors.
        others: Summands, and gradients of the sums.
    """
    terms, edges, outputs, channels = pointwise.shape
    if channels % LANES or outputs % LANES or len(inputs) != terms * edges:
        return False
    images, _, height, width = inputs[0].shape
    shape, reduced = (images, channels, height, width), (images, outputs, height, width)
    return (
        inputs[0].numel() > 0
        and len(scale) >= terms
        and scale.shape[1:] == (edges,)
        and all(x.shape == shape for x in inputs)
        and all(x.shape == reduced for x in others)
        and usable(pointwise, scale, *inputs, *others)
    )


class Gradients(NamedTuple):
    """Derivatives of `normalized_sum`; None where nobody asked."""

    pointwise: Tensor | None
    scale: Tensor | None
    inputs: list[Tensor | None]
    features: list[Tensor | None]


def normalized_sum(
    pointwise: Tensor,
    scale: Tensor,
    eps: float,
    inputs: Sequence[Sequence[Tensor]],
    features: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """`nets.pointwise.normalized_sum` in batch statistics, of one edge per part.

    Args:
        pointwise: Matrices [terms, edges, out_channels, channels].
        scale: Weights [terms + features, edges].
        eps: Added to the variances.
        inputs: Images [terms][edges].
        features: Summands that are ready.

    Returns:
        Means of the inputs, products of the matrices with their covariance, variances of the
        outputs, and the sums.
    """
    terms, edges, outputs, channels = pointwise.shape
    flat = [_side_by_side(x) for term in inputs for x in term]
    features = [_side_by_side(x) for x in features]
    means = pointwise.new_empty(terms, edges, channels)
    products = pointwise.new_empty(pointwise.shape)
    variances = pointwise.new_empty(terms, edges, outputs)
    images, _, height, width = flat[0].shape
    sums = [_images((images, outputs, height, width), pointwise) for _ in range(edges)]
    sizes = _sum_sizes(pointwise, features, images * height * width)
    read = [pointwise.contiguous(), scale.contiguous(), *flat, *features]
    found = _pointers([means, products, variances, *sums])
    _check(_kernels().normalized_sum(sizes, eps, _pointers(read), found))
    return means, products, variances, sums


def normalized_sum_gradients(
    kept: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    eps: float,
    upstream: Sequence[Tensor],
    inputs: Sequence[Tensor],
    features: Sequence[Tensor],
    needs: Sequence[bool],
) -> Gradients:
    """Derivatives of the sums.

    Args:
        kept: Matrices, weights, means, products and variances.
        eps: As before.
        upstream: Gradients of the sums.
        inputs: Images, term after term.
        features: Summands; none where neither their weights' nor their gradients are asked for.
        needs: Who is asked for: matrices, weights, each input, each summand.
    """
    pointwise, scale, *_ = kept
    inputs, features = ([_side_by_side(x) for x in images] for images in (inputs, features))
    upstream = [_side_by_side(g) for g in upstream]
    images, _, height, width = inputs[0].shape
    found = [
        torch.empty_like(pointwise, memory_format=torch.contiguous_format) if needs[0] else None,
        torch.empty_like(scale, memory_format=torch.contiguous_format) if needs[1] else None,
    ]
    shape = images, pointwise.shape[3], height, width
    found += [_images(shape, pointwise) if asked else None for asked in needs[2 : 2 + len(inputs)]]
    shape = images, pointwise.shape[2], height, width
    asked = needs[2 + len(inputs) :]
    found += [_images(shape, pointwise) if one else None for one in asked]
    sizes = _sum_sizes(pointwise, asked, images * height * width)
    placed = features or [pointwise] * len(asked)  # not read, where their weights are not asked for
    read = [*(t.contiguous() for t in kept), *upstream, *inputs, *placed]
    _check(_kernels().normalized_sum_gradients(sizes, eps, _pointers(read), _pointers(found)))
    return Gradients(found[0], found[1], found[2 : 2 + len(inputs)], found[2 + len(inputs) :])


def _sum_sizes(pointwise: Tensor, features: Sequence[object], pixels: int) -> ctypes.Array:
    threads = torch.get_num_threads()
    return _sizes(pointwise.itemsize, threads, *pointwise.shape, len(features), pixels)


def _side_by_side(x: Tensor) -> Tensor:
    """The images with each pixel's channels side by side."""
    return x.contiguous(memory_format=torch.channels_last)


def _images(shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _kernels() -> ctypes.CDLL:
    made = library()
    assert made is not None, "ask whether they are there first"
    return made


def _sizes(*numbers: int) -> ctypes.Array:
    return (ctypes.c_int64 * len(numbers))(*numbers)


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array:
    addresses = [None if t is None else t.data_ptr() for t in tensors]
    return (ctypes.c_void_p * len(addresses))(*addresses)


def _check(status: int) -> None:
    if status == _NO_MEMORY:
        raise MemoryError("no memory for a convolution's frames and sums")
    assert not status, "a shape that `takes` refuses"
