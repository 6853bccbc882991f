"""Fixed parts of outer networks, which no search changes."""

import torch.nn.functional as F
from torch import Tensor, nn

from darts_gdas.nets.candidates import FactorizedReduce, ReluConvNorm
from darts_gdas.nets.layout import CellPlan, Layout


class SmallImageStem(nn.Module):
    """3x3 convolution and norm; both input states of the first cell are its output."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.conv = nn.Conv2d(layout.in_channels, layout.stem_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(layout.stem_channels)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(c_{-2}, c_{-1}): the same state twice."""
        state = self.norm(self.conv(images))
        return state, state


class ImageNetStem(nn.Module):
    """Three strided 3x3 convolutions; the states leave at 1/4 and at 1/8 of the resolution."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        channels = layout.channels
        self.first = nn.Sequential(
            nn.Conv2d(layout.in_channels, channels // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(),
            nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.second = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(c_{-2}, c_{-1}) at 1/4 and 1/8 of the resolution."""
        first = self.first(images)
        return first, self.second(first)


class Unchanged(nn.Identity):
    """A state that enters a cell as it is."""

    def after_relu(self, x: Tensor) -> Tensor:
        """The state, which here has passed no ReLU."""
        return x


def build_inputs(plan: CellPlan, affine: bool) -> nn.ModuleList:
    """What brings a cell's input states to its channels and to one resolution.

    A single state needs nothing of that. Two pass modules that begin with a ReLU; `after_relu`
    runs them on states that have passed one.
    """
    if len(plan.in_channels) == 1:
        return nn.ModuleList([Unchanged()])
    first, second = plan.in_channels
    shrink = FactorizedReduce if plan.halves_first_input else ReluConvNorm
    return nn.ModuleList(
        [shrink(first, plan.channels, affine), ReluConvNorm(second, plan.channels, affine)]
    )


class AuxiliaryHead(nn.Module):
    """A second classifier part-way through the network, for training only.

    The published heads pool 8x8 maps by windows of 5 with stride 3 (CIFAR) and 7x7 maps by
    windows of 5 with stride 2 (ImageNet), to 2x2 either way. `pool` generalises both to any size.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    @staticmethod
    def pool(x: Tensor) -> Tensor:
        """Average-pool to 2x2 by windows of about 5/8 of the side."""
        height, width = x.shape[2:]
        if min(height, width) == 1:
            return F.adaptive_avg_pool2d(x, 2)
        window = [min(-(-5 * side // 8), side - 1) for side in (height, width)]
        return F.avg_pool2d(x, window, stride=[height - window[0], width - window[1]])

    def forward(self, x: Tensor) -> Tensor:
        """Logits from the output of a cell."""
        return self.classifier(self.features(self.pool(F.relu(x))).flatten(1))
