"""The outer network: channels, cells, reductions and stem, the same for search and retraining."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from torch import Tensor, nn

from darts_gdas.nets.operations import FactorizedReduce, ReluConvNorm

NORMAL, REDUCE = "normal", "reduce"


class Stem(Enum):
    """What precedes the first cell.

    `cifar` keeps the resolution (one 3x3 convolution); `imagenet` divides it by 4 and 8 (three 3x3
    convolutions with stride 2) and hands the first cell two different states.
    """

    cifar = "cifar"
    imagenet = "imagenet"

    @property
    def stride(self) -> int:
        """What the stem divides height and width by."""
        return 1 if self is Stem.cifar else 8


@dataclass(frozen=True, slots=True)
class CellPlan:
    """Where one cell stands in the network.

    Attributes:
        kind: Key into the cells of a genotype or a search space.
        channels: Channels of every state inside the cell.
        in_channels: Channels of the two states that enter, (c_{k-2}, c_{k-1}).
        halves_first_input: c_{k-2} has twice the resolution of c_{k-1} and must be reduced.
    """

    kind: str
    channels: int
    in_channels: tuple[int, int]
    halves_first_input: bool

    @property
    def stride(self) -> int:
        """Stride of the edges that leave the cell's inputs."""
        return 2 if self.kind == REDUCE else 1


def build_inputs(plan: CellPlan, affine: bool) -> nn.ModuleList:
    """What brings a cell's two input states to its channels and to one resolution.

    Both modules begin with a ReLU; `after_relu` runs them on states that have passed one.
    """
    first, second = plan.in_channels
    shrink = FactorizedReduce if plan.halves_first_input else ReluConvNorm
    return nn.ModuleList(
        [shrink(first, plan.channels, affine), ReluConvNorm(second, plan.channels, affine)]
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """A chain of cells between a stem and a linear classifier.

    Attributes:
        channels: Channels of the first cells (C in the papers); each reduction doubles them.
        layers: Number of cells (L).
        num_classes: Outputs of the classifier.
        in_channels: Channels of the images.
        stem: What precedes the first cell.
        reductions: Positions of the reduction cells; None puts two at L // 3 and 2 L // 3.

    Raises:
        ValueError: If a number is too small, or the default reductions do not fit.

    Reference:
        Liu et al., ICLR 2019, section 3.1.
    """

    channels: int
    layers: int
    num_classes: int
    in_channels: int = 3
    stem: Stem = Stem.cifar
    reductions: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        minima = {"channels": 2, "layers": 1, "num_classes": 2, "in_channels": 1}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise ValueError(
                    f"net.{name} must be at least {minimum}, got {getattr(self, name)}"
                )
        if self.reductions is None and self.layers < 3:
            raise ValueError(
                f"net.layers must be at least 3, got {self.layers}: two reduction cells "
                "and a normal one need a place"
            )
        places = self.reduction_positions
        if not set(places) <= set(range(self.layers)) or len(set(places)) < len(places):
            raise ValueError(
                f"net.reductions must be distinct and lie in 0..{self.layers - 1}, "
                f"got {self.reductions}"
            )

    @property
    def reduction_positions(self) -> tuple[int, ...]:
        """Indices of the reduction cells."""
        if self.reductions is None:
            return (self.layers // 3, 2 * self.layers // 3)
        return self.reductions

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each cell, in order."""
        reductions = self.reduction_positions
        return tuple(REDUCE if i in reductions else NORMAL for i in range(self.layers))

    @property
    def stem_channels(self) -> int:
        """Channels that leave the stem: 3 C for small images, C for ImageNet."""
        return 3 * self.channels if self.stem is Stem.cifar else self.channels

    def plan(self, num_outputs: Mapping[str, int]) -> tuple[CellPlan, ...]:
        """Every cell's place.

        Args:
            num_outputs: Number of states that a cell of each kind concatenates.
        """
        plans = []
        before, last = self.stem_channels, self.stem_channels
        channels, halves = self.channels, self.stem is Stem.imagenet
        for kind in self.kinds:
            channels = 2 * channels if kind == REDUCE else channels
            plans.append(CellPlan(kind, channels, (before, last), halves))
            before, last, halves = last, num_outputs[kind] * channels, kind == REDUCE
        return tuple(plans)

    def check_image_size(self, height: int, width: int) -> None:
        """Raise a `ValueError` where the images are too small to be reduced that often."""
        minimum = self.stem.stride * 2 ** len(self.reduction_positions)
        if min(height, width) < minimum:
            raise ValueError(
                f"images of {height}x{width} pixels are too small: {self.stem.value} stem and "
                f"{len(self.reduction_positions)} reduction cells need at least "
                f"{minimum}x{minimum}; choose a larger dataset.image_size"
            )


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


def build_stem(layout: Layout) -> nn.Module:
    """The stem that a layout names."""
    return SmallImageStem(layout) if layout.stem is Stem.cifar else ImageNetStem(layout)
