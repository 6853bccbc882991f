"""Gradients that pass through float16 without being rounded to zero."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function


def with_scaled_gradients(tensors: Sequence[Tensor], factor: float) -> list[Tensor]:
    """The same tensors; gradients are multiplied on their way back through them.

    With a factor behind a network and its inverse before its parameters, gradients keep their
    value (exactly, if it is a power of two) and are larger in between. That holds for first
    derivatives: a second one would meet the inverse twice.

    Args:
        tensors: Those that require no gradient are returned as they are.
        factor: 1 returns all of them as they are.
    """
    if factor == 1:
        return list(tensors)
    return [
        _Scaled.apply(tensor, factor) if tensor.requires_grad else tensor  # type: ignore[misc]
        for tensor in tensors
    ]


class _Scaled(Function):
    """The identity, with scaled gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        return gradient * ctx.factor, None
