"""The blocks of a stand-alone network, as they are written into its file: torch alone.

They are the definitions that `nets.operations` holds faster forms of, under the same names, so that
weights fit both. Import nothing here that the written file should not import.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReluConvNorm(nn.Module):
    """ReLU, convolution, norm."""

    def __init__(self, before: int, channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, channels, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(x)))


def every_second_pixel(channels: int) -> nn.Sequential:
    """A pointwise block on every second pixel of every second row."""
    return nn.Sequential(nn.AvgPool2d(1, stride=2), ReluConvNorm(channels, channels))


class FactorizedReduce(nn.Module):
    """Half the height and width: ReLU, convolutions of even and of odd pixels, norm."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(before, channels // 2, 1, bias=False)
        self.odd = nn.Conv2d(before, channels - channels // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        height, width = x.shape[2:]
        even_sided = F.pad(x, (0, width % 2, 0, height % 2))
        even, odd = x[:, :, ::2, ::2], even_sided[:, :, 1::2, 1::2]
        return self.norm(torch.cat([self.even(even), self.odd(odd)], dim=1))


class SeparableConv(nn.Module):
    """ReLU, one kernel for each channel, a pointwise mix of the channels, norm."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.depthwise = nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(F.relu(x))))


def separable_convs(channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Two separable convolutions, the first one strided."""
    return nn.Sequential(SeparableConv(channels, kernel, stride), SeparableConv(channels, kernel))


def conv_7x1_1x7(channels: int, stride: int = 1) -> nn.Sequential:
    """ReLU, a row of seven weights, a column of seven weights, norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(channels),
    )


def group_conv_3x1_1x3(channels: int, stride: int = 1) -> nn.Sequential:
    """A row and a column of weights in eight groups of channels, then a mix of all channels."""
    groups = math.gcd(8, channels)
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 3), (1, stride), (0, 1), groups=groups, bias=False),
        nn.Conv2d(channels, channels, (3, 1), (stride, 1), (1, 0), groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        ReluConvNorm(channels, channels),
    )


class MaxPoolNorm(nn.Module):
    """The largest of 3x3 pixels, norm."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, stride, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pool(x))


class ResidualReduction(nn.Module):
    """Half the height and width, other channels: two convolutions beside a pooled shortcut."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.first = ReluConvNorm(before, channels, kernel=3, stride=2)
        self.second = ReluConvNorm(channels, channels, kernel=3)
        self.shortcut = nn.Conv2d(before, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        return self.shortcut(pooled) + self.second(self.first(x))


class MBConv(nn.Module):
    """Widen, convolve each channel by itself, narrow; where the shape stays, add the input."""

    def __init__(
        self, before: int, channels: int, kernel: int, expansion: int, stride: int = 1
    ) -> None:
        super().__init__()
        wide = expansion * before
        self.is_residual = before == channels and stride == 1
        self.widen = nn.Conv2d(before, wide, 1, bias=False)
        self.widen_norm = nn.BatchNorm2d(wide)
        self.depthwise = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(wide)
        self.narrow = nn.Conv2d(wide, channels, 1, bias=False)
        self.narrow_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.widen_norm(self.widen(x)))
        y = F.relu(self.depthwise_norm(self.depthwise(y)))
        y = self.narrow_norm(self.narrow(y))
        return x + y if self.is_residual else y


class Noise(nn.Module):
    """Standard normal noise in place of the image: a hash of key, count and position."""

    key: Tensor
    draws: Tensor

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.register_buffer("key", torch.zeros((), dtype=torch.int64))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x[:, :, :: self.stride, :: self.stride].shape
        position = torch.arange(batch * channels * height * width, device=x.device)
        key = self.scrambled(self.key ^ self.scrambled(self.draws))
        odd = 2 * (self.scrambled(self.scrambled(position) ^ key) >> 8) + 1 - 2**24
        normal = 2**0.5 * torch.erfinv(odd.float() * 2.0**-24)
        return normal.view(batch, height, width, channels).permute(0, 3, 1, 2).to(x.dtype)

    @staticmethod
    def scrambled(x: Tensor) -> Tensor:
        x = x & 0xFFFFFFFF
        for _ in range(2):
            x = ((x ^ (x >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
        return x ^ (x >> 16)
