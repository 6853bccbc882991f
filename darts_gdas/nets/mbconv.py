"""The inverted bottleneck of MobileNetV2, an operation that may change the number of channels.

It is also what a written-out network is made of (`portable.source` copies it), so it needs torch
alone.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_gdas.nets.depthwise import Depthwise


class MBConv(nn.Module):
    """Widen by a 1x1 convolution, convolve each channel by itself, narrow by a 1x1 convolution.

    Norms follow all three, ReLU the first two: the narrow states pass none. Where the shape stays,
    the input is added, and a factor per sample may scale the rest. The papers' ReLU6 stops at 6 for
    the sake of 8-bit arithmetic; ours does not, so that all that is known of networks of ReLUs
    (variances, linear regions) is true of it.

    Reference:
        Sandler et al., CVPR 2018, https://arxiv.org/abs/1801.04381, table 1; as a candidate, Cai et
        al., ICLR 2019, https://arxiv.org/abs/1812.00332, section 4.2.
    """

    def __init__(
        self,
        channels: int,
        stride: int = 1,
        affine: bool = True,
        before: int | None = None,
        *,
        kernel: int,
        expansion: int,
    ) -> None:
        super().__init__()
        before = channels if before is None else before
        wide = expansion * before
        self.is_residual = before == channels and stride == 1
        self.widen = nn.Conv2d(before, wide, 1, bias=False)
        self.widen_norm = nn.BatchNorm2d(wide, affine=affine)
        self.depthwise = Depthwise(wide, kernel, stride=stride)
        self.depthwise_norm = nn.BatchNorm2d(wide, affine=affine)
        self.narrow = nn.Conv2d(wide, channels, 1, bias=False)
        self.narrow_norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
        """Images [batch, channels, height, width], rounded up where the stride halves them."""
        y = F.relu(self.widen_norm(self.widen(x)))
        y = F.relu(self.depthwise_norm(self.depthwise(y)))
        y = self.narrow_norm(self.narrow(y))
        if not self.is_residual:
            return y
        return x + y if factor is None else torch.addcmul(x, y, factor)


MBCONVS = {
    f"mbconv{expansion}_{kernel}x{kernel}": partial(MBConv, kernel=kernel, expansion=expansion)
    for expansion in (3, 6)
    for kernel in (3, 5, 7)
}
"""The candidates of ProxylessNAS, by expansion and kernel."""
