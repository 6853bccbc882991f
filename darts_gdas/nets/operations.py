"""The candidate operations: name -> factory(channels, stride, affine)."""

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.nets.depthwise import Depthwise
from darts_gdas.nets.mbconv import MBCONVS
from darts_gdas.nets.noise import Noise
from darts_gdas.space import NONE

OperationFactory = Callable[[int, int, bool], nn.Module]
Images = Float[Tensor, "batch channels height width"]
Reduced = Float[Tensor, "batch out_channels out_height out_width"]


class Zero(nn.Module):
    """No connection: zeros in the shape of the other candidates' outputs."""

    def __init__(self, stride: int, channels: int | None = None) -> None:
        super().__init__()
        self.stride = stride
        self.channels = channels  # None: those of the input

    def forward(self, x: Images) -> Reduced:
        """Zeros; the values of `x` play no part, not even a NaN."""
        picked = x[:, :, :: self.stride, :: self.stride]
        if self.channels is None:
            return torch.zeros_like(picked)
        return picked.new_zeros(len(x), self.channels, *picked.shape[2:])


class ReluConvNorm(nn.Module):
    """ReLU, convolution, norm."""

    def __init__(
        self, in_channels: int, out_channels: int, affine: bool, kernel: int = 1, stride: int = 1
    ) -> None:
        super().__init__()
        # One pixel of each window: taken before, see `FactorizedReduce`.
        self.step, stride = (stride, 1) if kernel == 1 else (1, stride)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Images) -> Reduced:
        """The block in pre-activation order."""
        return self.after_relu(F.relu(x))

    def after_relu(self, x: Images) -> Reduced:
        """The rest, where the ReLU has been taken."""
        picked = x if self.step == 1 else x[:, :, :: self.step, :: self.step]
        return self.norm(self.conv(picked))


class FactorizedReduce(nn.Module):
    """Halve height and width without losing three of four pixels: ReLU, convolutions, norm.

    Two 1x1 convolutions with stride 2, the second one shifted by a pixel, side by side. An odd
    size is rounded up, as strided convolutions with padding round it.

    The pixels are picked before the convolutions. The library could do it, but the backward pass of
    a strided 1x1 convolution of few channels in channels_last writes beyond its memory on a CPU
    with AVX2 (oneDNN in torch 2.14.1: "corrupted size vs. prev_size").
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool) -> None:
        super().__init__()
        half = out_channels // 2
        self.even = nn.Conv2d(in_channels, half, 1, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - half, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Images) -> Reduced:
        """Half the size, rounded up."""
        return self.after_relu(F.relu(x))

    def after_relu(self, x: Images) -> Reduced:
        """The rest, where the ReLU has been taken."""
        height, width = x.shape[2:]
        even_sided = F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x
        picked = x[:, :, ::2, ::2], even_sided[:, :, 1::2, 1::2]
        return self.norm(torch.cat([self.even(picked[0]), self.odd(picked[1])], dim=1))


class SeparableConv(nn.Module):
    """ReLU, one k x k kernel per channel, a pointwise mix of the channels, norm."""

    def __init__(
        self, channels: int, kernel: int, stride: int, affine: bool, dilation: int = 1
    ) -> None:
        super().__init__()
        self.depthwise = Depthwise(channels, kernel, stride=stride, dilation=dilation)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Images) -> Reduced:
        """The block in pre-activation order."""
        return self.after_relu(F.relu(x))

    def after_relu(self, x: Images) -> Reduced:
        """The rest, where the ReLU has been taken."""
        return self.norm(self.pointwise(self.depthwise(x)))


class SeparableConvs(nn.Sequential):
    """One or more `SeparableConv` after each other."""

    @property
    def blocks(self) -> list[SeparableConv]:
        """The blocks in order."""
        return cast(list[SeparableConv], list(self))

    def after_relu(self, x: Images) -> Reduced:
        """The rest, where the first ReLU has been taken."""
        first, *others = self.blocks
        x = first.after_relu(x)
        for block in others:
            x = block(x)
        return x


class NormalizedPool(nn.Module):
    """Pooling as a supernet holds it: normalised, so that candidates compete at equal scales."""

    def __init__(self, pool: nn.Module, channels: int, affine: bool = False) -> None:
        super().__init__()
        self.pool = pool
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Images) -> Reduced:
        """Pool, then normalise."""
        return self.norm(self.pool(x))


def _separable(kernel: int) -> OperationFactory:
    """Two depthwise-separable convolutions, the first one strided."""
    return lambda channels, stride, affine: SeparableConvs(
        SeparableConv(channels, kernel, stride, affine), SeparableConv(channels, kernel, 1, affine)
    )


def _dilated(kernel: int) -> OperationFactory:
    """One depthwise-separable convolution with dilation 2."""
    return lambda channels, stride, affine: SeparableConvs(
        SeparableConv(channels, kernel, stride, affine, dilation=2)
    )


def _skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


def _conv(kernel: int) -> OperationFactory:
    """ReLU, k x k convolution, norm."""
    return lambda channels, stride, affine: ReluConvNorm(channels, channels, affine, kernel, stride)


def _conv_7x1_1x7(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), stride=(1, stride), padding=(0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), stride=(stride, 1), padding=(3, 0), bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


def _group_conv_3x1_1x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """A row and a column of weights in eight groups of channels, then a mix of all channels."""
    groups = math.gcd(8, channels)
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 3), (1, stride), (0, 1), groups=groups, bias=False),
        nn.Conv2d(channels, channels, (3, 1), (stride, 1), (1, 0), groups=groups, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
        ReluConvNorm(channels, channels, affine),
    )


def _with_equal_channels(factory: Callable[[int, int, int, bool], nn.Module]) -> OperationFactory:
    return lambda channels, stride, affine: factory(channels, channels, stride, affine)


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
    "nor_conv_1x1": _conv(1),
    "nor_conv_3x3": _conv(3),
    "group_conv_3x1_1x3": _group_conv_3x1_1x3,
    "norm_max_pool_3x3": lambda channels, stride, affine: NormalizedPool(
        nn.MaxPool2d(3, stride, padding=1), channels, affine
    ),
    "noise": lambda channels, stride, affine: Noise(stride),
    **{name: _with_equal_channels(factory) for name, factory in MBCONVS.items()},
}
"""All known operations: what a genotype or a search space may name.

A factory takes (channels, stride, affine) and returns a module that keeps the number of channels
and divides height and width by the stride, rounding up. The set is that of Liu et al., ICLR 2019,
section 3.1 and appendix, with NASNet's and AmoebaNet's larger kernels, NAS-Bench-201's plain
convolutions (Dong and Yang, ICLR 2020, section 2.1), the grouped convolutions and normalised
pooling of GDAS's fixed reduction cell (Dong and Yang, CVPR 2019, as in the authors' code), the
noise of Zela et al., ICLR 2020, and the inverted bottlenecks of ProxylessNAS.
"""

CHANNEL_CHANGERS: dict[str, Callable[[int, int, int, bool], nn.Module]] = {
    NONE: lambda before, channels, stride, affine: Zero(stride, channels),
    **MBCONVS,
}
"""Those of them that can change the number of channels: name -> factory(channels before, channels,
stride, affine)."""

POOLINGS = frozenset({"max_pool_3x3", "avg_pool_3x3"})
"""Operations without weights whose outputs a supernet normalises, to make their scales equal."""


def check_operations(names: frozenset[str] | set[str], where: str) -> None:
    """Raise a `ValueError` that names the operations which do not exist."""
    unknown = sorted(names - set(OPERATIONS))
    if unknown:
        raise ValueError(
            f"{where} names unknown operations {unknown}; known: {', '.join(OPERATIONS)}"
        )


def build_operation(name: str, before: int, channels: int, stride: int, affine: bool) -> nn.Module:
    """An operation between states of `before` and of `channels` channels.

    Raises:
        ValueError: If the operation keeps the number of channels, and these differ.
    """
    if before == channels:
        return OPERATIONS[name](channels, stride, affine)
    if name not in CHANNEL_CHANGERS:
        raise ValueError(
            f"{name!r} stands where {before} channels become {channels}, and keeps their number: "
            f"see net.reductions and net.widths, or take one of {', '.join(MBCONVS)}"
        )
    return CHANNEL_CHANGERS[name](before, channels, stride, affine)


def candidate(name: str, channels: int, stride: int, before: int | None = None) -> nn.Module:
    """An operation as a supernet holds it: without affine norms, pooling normalised.

    A learnable scale after each candidate could undo the mixture's weights, hence affine=False.
    """
    operation = build_operation(name, before or channels, channels, stride, False)
    return NormalizedPool(operation, channels) if name in POOLINGS else operation
