"""The candidate operations: name -> factory(channels, stride, affine)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.space import NONE

OperationFactory = Callable[[int, int, bool], nn.Module]
Images = Float[Tensor, "batch channels height width"]
Reduced = Float[Tensor, "batch out_channels out_height out_width"]


class Zero(nn.Module):
    """No connection: zeros in the shape of the other candidates' outputs."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Images) -> Reduced:
        """Zeros; the values of `x` play no part, not even a NaN."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class FactorizedReduce(nn.Module):
    """Halve height and width without losing three of four pixels.

    Two 1x1 convolutions with stride 2, the second one shifted by a pixel, side by side. An odd
    size is rounded up, as strided convolutions with padding round it.
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool) -> None:
        super().__init__()
        half = out_channels // 2
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(in_channels, half, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - half, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Images) -> Reduced:
        """Half the size, rounded up."""
        x = self.relu(x)
        height, width = x.shape[2:]
        shifted = F.pad(x, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
        return self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))


def relu_conv_norm(in_channels: int, out_channels: int, affine: bool) -> nn.Module:
    """A 1x1 convolution in pre-activation order."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels, affine=affine),
    )


def _depthwise(
    channels: int, kernel: int, stride: int, affine: bool, dilation: int = 1
) -> list[nn.Module]:
    """ReLU, depthwise k x k, pointwise, norm."""
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(
            channels,
            channels,
            kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=channels,
            bias=False,
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    ]


def _separable(kernel: int) -> OperationFactory:
    """Two depthwise-separable convolutions, the first one strided."""
    return lambda channels, stride, affine: nn.Sequential(
        *_depthwise(channels, kernel, stride, affine), *_depthwise(channels, kernel, 1, affine)
    )


def _dilated(kernel: int) -> OperationFactory:
    """One depthwise-separable convolution with dilation 2."""
    return lambda channels, stride, affine: nn.Sequential(
        *_depthwise(channels, kernel, stride, affine, dilation=2)
    )


def _skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


def _conv_7x1_1x7(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), stride=(1, stride), padding=(0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), stride=(stride, 1), padding=(3, 0), bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


OPERATIONS: dict[str, OperationFactory] = {
    NONE: lambda channels, stride, affine: Zero(stride),
    "max_pool_3x3": lambda channels, stride, affine: nn.MaxPool2d(3, stride, padding=1),
    "avg_pool_3x3": lambda channels, stride, affine: nn.AvgPool2d(
        3, stride, padding=1, count_include_pad=False
    ),
    "skip_connect": _skip_connect,
    "sep_conv_3x3": _separable(3),
    "sep_conv_5x5": _separable(5),
    "sep_conv_7x7": _separable(7),
    "dil_conv_3x3": _dilated(3),
    "dil_conv_5x5": _dilated(5),
    "conv_7x1_1x7": _conv_7x1_1x7,
}
"""All known operations: what a genotype or a search space may name.

A factory takes (channels, stride, affine) and returns a module that keeps the number of channels
and divides height and width by the stride, rounding up. The set is that of Liu et al., ICLR 2019,
section 3.1 and appendix, with NASNet's and AmoebaNet's larger kernels.
"""

POOLINGS = frozenset({"max_pool_3x3", "avg_pool_3x3"})
"""Operations without weights whose outputs a supernet normalises, to make their scales equal."""


def check_operations(names: frozenset[str] | set[str], where: str) -> None:
    """Raise a `ValueError` that names the operations which do not exist."""
    unknown = sorted(names - set(OPERATIONS))
    if unknown:
        raise ValueError(
            f"{where} names unknown operations {unknown}; known: {', '.join(OPERATIONS)}"
        )


def candidate(name: str, channels: int, stride: int) -> nn.Module:
    """An operation as a supernet holds it: without affine norms, pooling normalised.

    A learnable scale after each candidate could undo the mixture's weights, hence affine=False.
    """
    operation = OPERATIONS[name](channels, stride, False)
    if name not in POOLINGS:
        return operation
    return nn.Sequential(operation, nn.BatchNorm2d(channels, affine=False))
