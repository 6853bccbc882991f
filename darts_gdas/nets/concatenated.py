"""The ReLU of images whose channels lie side by side, as it leaves a cell."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import darts_gdas.native as native
from darts_gdas.nets.functions import apply


def rectified(
    parts: Sequence[Float[Tensor, "batch _ height width"]],
) -> Float[Tensor, "batch channels height width"]:
    """`relu(cat(parts))`, the channels of all parts; on a CPU each part's gradient is whole.

    The gradient of a concatenation is views of one image, which whoever reads pixel by pixel
    copies first. A GPU would wait for more launches instead.
    """
    if not parts[0].is_cpu or native.recorded():
        return F.relu(torch.cat([*parts], dim=1), inplace=True)
    return apply(_Rectified, *parts)


class _Rectified(torch.autograd.Function):
    """Both, and the gradient of each part by itself."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1).relu_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.channels = [part.shape[1] for part in inputs]
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        both = *gradients, *ctx.saved_tensors
        pairs = zip(*(x.split(ctx.channels, dim=1) for x in both), strict=True)
        return tuple(torch.ops.aten.threshold_backward(g, y, 0) for g, y in pairs)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(torch.cat(tangents, dim=1), output, 0)
