"""The outer network of DARTS."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from darts_gdas.nets.blocks import ImageNetStem, SmallImageStem
from darts_gdas.nets.code import SMALL_STEM_NAMES, Code, conv_norm, sequential
from darts_gdas.nets.layout import NORMAL, REDUCE, Layout, Skeleton, Stem


@dataclass(frozen=True, slots=True)
class Darts(Skeleton):
    """Each cell reads the outputs of the last two and begins with a ReLU; reductions are cells.

    Reference:
        Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055, section 3.1.
    """

    name: ClassVar[str] = "darts"
    num_inputs: ClassVar[int] = 2
    fewest_layers: ClassVar[int] = 3
    paper: ClassVar[tuple[int, int]] = (36, 20)
    stems: ClassVar[tuple[Stem, ...]] = (Stem.cifar, Stem.imagenet)
    rectifies: ClassVar[bool] = True

    def takes(self, num_inputs: Mapping[str, int]) -> bool:
        """Whether there are cells of two inputs."""
        return 2 in num_inputs.values()

    def check(self, layout: Layout) -> None:
        """Nothing is asked beyond what every layout asks."""

    def kinds(self, layout: Layout) -> tuple[str, ...]:
        """Normal cells, and reduction cells at their places."""
        reductions = layout.reduction_positions
        return tuple(REDUCE if i in reductions else NORMAL for i in range(layout.layers))

    def stem_channels(self, layout: Layout) -> int:
        """3 C for small images, C for ImageNet."""
        return 3 * layout.channels if layout.stem is Stem.cifar else layout.channels

    def build_stem(self, layout: Layout) -> nn.Module:
        """The stem that the layout names."""
        return SmallImageStem(layout) if layout.stem is Stem.cifar else ImageNetStem(layout)

    def enter(self, stem: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """Both states of the stem after a ReLU, which is taken once where they are the same."""
        before, last = stem(images)
        first = F.relu(before)
        return first, first if last is before else F.relu(last)

    def build_tail(self, layout: Layout, channels: int) -> tuple[nn.Module, int]:
        """Nothing."""
        return nn.Identity(), channels

    def code(self, layout: Layout, channels: int) -> Code:
        """Two variables, `before` and `last`, pass through the cells."""
        first, images = layout.stem_channels, layout.in_channels
        if layout.stem is Stem.cifar:
            stem, names = sequential("stem", conv_norm(images, first)), SMALL_STEM_NAMES
            begin = ["before = last = self.stem(x)"]
        else:
            half = first // 2
            quarter = [*conv_norm(images, half, 2), "nn.ReLU()", *conv_norm(half, first, 2)]
            eighth = ["nn.ReLU()", *conv_norm(first, first, 2)]
            stem = (*sequential("stem_quarter", quarter), *sequential("stem_eighth", eighth))
            names = {"stem.first": "stem_quarter", "stem.second": "stem_eighth"}
            begin = ["before = self.stem_quarter(x)", "last = self.stem_eighth(before)"]
        loop = ["for cell in self.cells:", "    before, last = last, cell(before, last)"]
        classes = {NORMAL: "NormalCell", REDUCE: "ReductionCell"}
        return Code(stem, (), (*begin, *loop), "last", names, classes)


DARTS = Darts()
