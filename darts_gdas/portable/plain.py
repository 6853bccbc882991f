"""Plain forms of blocks that `nets` holds in forms of its own, as they are written into a file.

Names and arguments are the same, so that weights fit both and the sources of other blocks can name
either. What is imported here is imported or copied by the written file too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_gdas.nets.candidates import ReluConvNorm


class ReluFirst(nn.Module):
    """A block that begins with a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return self.after_relu(F.relu(x))

    def after_relu(self, x: Tensor) -> Tensor:
        raise NotImplementedError


def Depthwise(channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """One kernel for each channel."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(channels, channels, kernel, stride, padding, dilation, channels, bias=False)


def even_and_odd(x: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of even rows and columns, and of odd ones; an odd side gets a row of zeros."""
    height, width = x.shape[2:]
    x = F.pad(x, (0, width % 2, 0, height % 2))
    return x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]


class SeparableConvs(nn.Sequential):
    """Separable convolutions, one after the other."""


class NormalizedPool(nn.Module):
    """Pooling, norm."""

    def __init__(self, pool: nn.Module, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.pool = pool
        self.norm = nn.BatchNorm2d(channels, affine=affine)

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
