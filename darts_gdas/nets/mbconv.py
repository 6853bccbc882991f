"""The inverted bottleneck of MobileNetV2, an operation that may change the number of channels."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.nets.depthwise import Depthwise

Images = Float[Tensor, "batch before height width"]
Reduced = Float[Tensor, "batch channels out_height out_width"]


class MBConv(nn.Module):
    """Widen by a 1x1 convolution, convolve each channel by itself, narrow by a 1x1 convolution.

    Norms follow all three, ReLU the first two: the narrow states pass none. Where the shape stays,
    the input is added. The papers' ReLU6 stops at 6 for the sake of 8-bit arithmetic; ours does
    not, so that all that is known of networks of ReLUs (variances, linear regions) is true of it.

    Attributes:
        is_residual: Whether the input is added.

    Reference:
        Sandler et al., CVPR 2018, https://arxiv.org/abs/1801.04381, table 1; as a candidate, Cai et
        al., ICLR 2019, https://arxiv.org/abs/1812.00332, section 4.2.
    """

    def __init__(
        self,
        before: int,
        channels: int,
        kernel: int,
        expansion: int,
        stride: int = 1,
        affine: bool = True,
    ) -> None:
        super().__init__()
        wide = expansion * before
        self.is_residual = before == channels and stride == 1
        self.widen = nn.Conv2d(before, wide, 1, bias=False)
        self.widen_norm = nn.BatchNorm2d(wide, affine=affine)
        self.depthwise = Depthwise(wide, kernel, stride=stride)
        self.depthwise_norm = nn.BatchNorm2d(wide, affine=affine)
        self.narrow = nn.Conv2d(wide, channels, 1, bias=False)
        self.narrow_norm = nn.BatchNorm2d(channels, affine=affine)

    def branch(self, x: Images) -> Reduced:
        """The three convolutions."""
        y = F.relu(self.widen_norm(self.widen(x)))
        y = F.relu(self.depthwise_norm(self.depthwise(y)))
        return self.narrow_norm(self.narrow(y))

    def forward(self, x: Images, factor: Tensor | None = None) -> Reduced:
        """The block; where the input is added, the rest may be scaled by a factor per sample."""
        y = self.branch(x)
        if not self.is_residual:
            return y
        return x + y if factor is None else torch.addcmul(x, y, factor)


def _mbconv(
    before: int, channels: int, stride: int, affine: bool, *, kernel: int, expansion: int
) -> nn.Module:
    return MBConv(before, channels, kernel, expansion, stride, affine)


MBCONVS: dict[str, Callable[[int, int, int, bool], nn.Module]] = {
    f"mbconv{expansion}_{kernel}x{kernel}": partial(_mbconv, kernel=kernel, expansion=expansion)
    for expansion in (3, 6)
    for kernel in (3, 5, 7)
}
"""Name -> factory(channels before, channels, stride, affine)."""
