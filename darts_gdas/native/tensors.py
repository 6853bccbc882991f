"""What kernels may read, and how they are called."""

import ctypes
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from darts_gdas.native.build import library

LANES = 4
"""Numbers of channels are multiples of it."""

Shape = tuple[int, ...]

_NO_MEMORY = 1

_TYPES = Tensor, nn.Parameter


_keys = torch._C._dispatch_keys
"""Who says what an operation means: layouts, devices, transforms, signs that are not applied."""


def _plain_keys() -> Iterator[int]:
    """Of numbers on a CPU, those made for inference among them."""
    for inference in (False, True):
        with torch.inference_mode(inference):
            yield _keys(torch.empty(0, device="cpu")).raw_repr()


_PLAIN = frozenset(_plain_keys())


def usable(*tensors: Tensor) -> bool:
    """Whether kernels may read these tensors: plain ones of one float format on a CPU.

    Not under transforms, forward-mode derivatives, modes that watch operations, or a compiler or
    trace that records them.
    """
    dtype = tensors[0].dtype
    if dtype is not torch.float32 and dtype is not torch.float64:
        return False
    if recorded() or _watched():
        return False
    for x in tensors:  # whether its numbers are what lies at its address
        if type(x) not in _TYPES or x.dtype is not dtype or _keys(x).raw_repr() not in _PLAIN:
            return False
    return library() is not None


def readable(
    images: Tensor,
    shapes: tuple[Shape, Shape],
    reduced: Sequence[Tensor],
    weights: Sequence[Tensor] = (),
    kernel: Shape = (),
) -> bool:
    """Whether kernels may read images, with each pixel's channels side by side, and weights.

    Args:
        images: What is read first.
        shapes: Of the images and of the outputs; the first may be either.
        reduced: Images of the outputs' shape.
        weights: Weights, if there are any.
        kernel: Their shape.
    """
    return (
        images.shape in shapes
        and all([w.shape == kernel for w in weights])
        and all([y.shape == shapes[1] for y in reduced])
        and usable(images, *weights, *reduced)
        and images.is_contiguous(memory_format=torch.channels_last)
    )


def transformed(x: Tensor) -> bool:
    """Whether a transform stands between a tensor and its numbers, as `vmap` does."""
    transforms = torch._C._functorch  # type: ignore[attr-defined]
    return transforms.is_functorch_wrapped_tensor(x) or transforms.is_legacy_batchedtensor(x)


def recorded() -> bool:
    """Whether a compiler or a trace records operations."""
    return torch.compiler.is_compiling() or torch._C._is_tracing()


def transforming() -> bool:
    """Whether this runs within a transform, as `vmap` is."""
    transforms = torch._C._functorch  # type: ignore[attr-defined]
    return transforms.peek_interpreter_stack() is not None


def in_forward_mode() -> bool:
    """Whether derivatives are taken in forward mode here."""
    return forward_ad._current_level >= 0


def _watched() -> bool:
    """Whether operations mean more than their results."""
    return torch._C._len_torch_dispatch_stack() > 0 or transforming() or in_forward_mode()


def side_by_side(x: Tensor) -> Tensor:
    """The images with each pixel's channels side by side."""
    return x.contiguous(memory_format=torch.channels_last)


def images_like(shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
    """Images that nobody has written yet, with each pixel's channels side by side."""
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def run(kernel: str, *arguments: float | Sequence[int] | Sequence[Tensor | None]) -> None:
    """Call a kernel with what it takes.

    Args:
        kernel: Its name.
        arguments: Whole numbers, floats, lists of whole numbers, and lists of tensors, whose
            addresses it takes; null for None.

    Raises:
        MemoryError: If it has no memory for what it computes with.
    """
    made = library()
    assert made is not None, "ask whether they are there first"
    status = getattr(made, kernel)(*map(_as_c, arguments))
    if status == _NO_MEMORY:
        raise MemoryError("no memory for a kernel's frames and sums")
    assert not status, "a shape that `takes` refuses"


def _as_c(argument: float | Sequence[int] | Sequence[Tensor | None]) -> Any:
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    if isinstance(argument, float):
        return ctypes.c_double(argument)
    if argument and isinstance(argument[0], int):
        return struct.pack(f"{len(argument)}q", *argument)
    addresses = [0 if t is None else t.data_ptr() for t in argument]  # type: ignore[union-attr]
    return struct.pack(f"{len(addresses)}P", *addresses)
