"""The outer network of NAS-Bench-201."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from darts_gdas.nets.blocks import SmallImageStem
from darts_gdas.nets.candidates import ReluConvNorm
from darts_gdas.nets.code import RUN_ONE_STATE, SMALL_STEM_NAMES, Code, conv_norm, sequential
from darts_gdas.nets.layout import NORMAL, RESIDUAL, CellPlan, Layout, Skeleton, Stem

NUM_STAGES = 3
"""Stages of equal cells, with a residual block between two of them."""


class ResidualReduction(nn.Module):
    """Halves the resolution: two 3x3 convolutions beside average pooling and a 1x1 convolution.

    It takes what a cell takes, so that a network calls both alike.

    Reference:
        Dong and Yang, ICLR 2020, https://arxiv.org/abs/2001.00326, figure 1.
    """

    def __init__(self, plan: CellPlan) -> None:
        super().__init__()
        (in_channels,) = plan.in_channels
        self.first = ReluConvNorm(in_channels, plan.channels, True, kernel=3, stride=2)
        self.second = ReluConvNorm(plan.channels, plan.channels, True, kernel=3)
        self.shortcut = nn.Conv2d(in_channels, plan.channels, 1, bias=False)

    def forward(self, inputs: Sequence[Tensor], _: object = None, *, rectify: bool) -> Tensor:
        """The sum of both paths, [batch, channels, height / 2, width / 2], rounded up."""
        (x,) = inputs
        pooled = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        y = self.shortcut(pooled) + self.second(self.first(x))
        return F.relu(y) if rectify else y


@dataclass(frozen=True, slots=True)
class NasBench201(Skeleton):
    """Each cell reads the last output alone, as it is, in three stages of equal cells.

    Between them stand fixed residual blocks that halve the resolution and double the channels.

    Reference:
        Dong and Yang, ICLR 2020, https://arxiv.org/abs/2001.00326, section 2.1.
    """

    name: ClassVar[str] = "nasbench201"
    num_inputs: ClassVar[int] = 1
    fewest_layers: ClassVar[int] = 2 * NUM_STAGES - 1
    paper: ClassVar[tuple[int, int]] = (16, 17)
    fixed: ClassVar[Mapping[str, Callable[[CellPlan], nn.Module]]] = {RESIDUAL: ResidualReduction}

    def takes(self, num_inputs: Mapping[str, int]) -> bool:
        """Whether all cells have one input, and there are normal ones."""
        return set(num_inputs.values()) == {1} and NORMAL in num_inputs

    def check(self, layout: Layout) -> None:
        """Stages are equal; stem, reductions and channels are the benchmark's."""
        of_its_own = (layout.reductions, layout.widths)
        if of_its_own != (None, None) or layout.stem is not Stem.cifar:
            raise ValueError(
                "a NAS-Bench-201 network has its own reductions and stem: leave net.reductions and "
                "net.stem out"
            )
        if layout.layers < self.fewest_layers or (layout.layers + 1) % NUM_STAGES:
            raise ValueError(
                "net.layers of a NAS-Bench-201 network must be 3 N + 2 (N cells in each of 3 "
                f"stages and 2 residual blocks): 5, 8, 11, 14, 17, ...; got {layout.layers}"
            )

    def kinds(self, layout: Layout) -> tuple[str, ...]:
        """Normal cells, and residual blocks between the stages."""
        reductions = layout.reduction_positions
        return tuple(RESIDUAL if i in reductions else NORMAL for i in range(layout.layers))

    def stem_channels(self, layout: Layout) -> int:
        """As many as the first cells have."""
        return layout.channels

    def build_stem(self, layout: Layout) -> nn.Module:
        """A convolution and a norm."""
        return SmallImageStem(layout)

    def enter(self, stem: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """The stem's output as it is."""
        return (stem(images)[1],)

    def build_tail(self, layout: Layout, channels: int) -> tuple[nn.Module, int]:
        """Norm and ReLU."""
        return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()), channels

    def code(self, layout: Layout, channels: int) -> Code:
        """One variable, `x`, passes through the cells."""
        return Code(
            sequential("stem", conv_norm(layout.in_channels, layout.channels)),
            sequential("tail", [f"nn.BatchNorm2d({channels})", "nn.ReLU()"]),
            RUN_ONE_STATE,
            "self.tail(x)",
            {**SMALL_STEM_NAMES, "tail": "tail"},
            {NORMAL: "NormalCell", RESIDUAL: "ResidualReduction"},
        )


NASBENCH201 = NasBench201()
