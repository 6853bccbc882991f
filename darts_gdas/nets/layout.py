"""The outer network: channels, cells, reductions and stem, the same for search and retraining."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

NORMAL, REDUCE, RESIDUAL = "normal", "reduce", "residual"
NUM_STAGES = 3
"""Stages of a NAS-Bench-201 network, with a residual block between two of them."""


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


class Skeleton(Enum):
    """How cells stand in the network.

    `darts`: each reads the outputs of the last two, begins with a ReLU, and reductions are cells
    that are searched as well. `nasbench201`: each reads the last output alone, as it is; between
    three stages of equal cells stand fixed residual blocks that halve the resolution and double
    the channels.
    """

    darts = "darts"
    nasbench201 = "nasbench201"

    @classmethod
    def of(cls, num_inputs: Iterable[int]) -> "Skeleton":
        """The one whose cells read so many states."""
        return cls.nasbench201 if set(num_inputs) == {1} else cls.darts

    @property
    def fewest_layers(self) -> int:
        """Layers of the smallest network that has all its parts."""
        return 3 if self is Skeleton.darts else 2 * NUM_STAGES - 1

    @property
    def num_inputs(self) -> int:
        """States that a cell reads."""
        return 2 if self is Skeleton.darts else 1

    def check_inputs(self, num_inputs: Mapping[str, int], what: str) -> None:
        """Raise a `ValueError` unless cells of all kinds take as many states as they are fed.

        Args:
            num_inputs: States that cells of each kind take.
            what: Whose cells they are.
        """
        if set(num_inputs.values()) != {self.num_inputs}:
            fed = "two states" if self.num_inputs == 2 else "one state"
            raise ValueError(f"this network feeds {fed} to a cell, {what} takes {dict(num_inputs)}")


@dataclass(frozen=True, slots=True)
class CellPlan:
    """Where one cell stands in the network.

    Attributes:
        kind: Key into the cells of a genotype or a search space; or "residual", a fixed block.
        channels: Channels of every state inside the cell.
        in_channels: Channels of the states that enter, (c_{k-2}, c_{k-1}) or c_{k-1} alone.
        halves_first_input: c_{k-2} has twice the resolution of c_{k-1} and must be reduced.
    """

    kind: str
    channels: int
    in_channels: tuple[int, ...]
    halves_first_input: bool = False

    @property
    def stride(self) -> int:
        """Stride of the edges that leave the cell's inputs."""
        return 2 if self.kind == REDUCE else 1


@dataclass(frozen=True, slots=True)
class Layout:
    """A chain of cells between a stem and a linear classifier.

    Attributes:
        channels: Channels of the first cells (C in the papers); each reduction doubles them.
        layers: Number of cells (L), reductions and residual blocks counted.
        num_classes: Outputs of the classifier.
        in_channels: Channels of the images.
        stem: What precedes the first cell.
        reductions: Positions of the reduction cells; None puts two at L // 3 and 2 L // 3.
        skeleton: How cells stand in it. NAS-Bench-201's takes 3 N + 2 layers and no `reductions`.

    Raises:
        ValueError: If a number is too small, or the default reductions do not fit.

    Reference:
        Liu et al., ICLR 2019, section 3.1; Dong and Yang, ICLR 2020, section 2.1.
    """

    channels: int
    layers: int
    num_classes: int
    in_channels: int = 3
    stem: Stem = Stem.cifar
    reductions: tuple[int, ...] | None = None
    skeleton: Skeleton = Skeleton.darts

    def __post_init__(self) -> None:
        minima = {"channels": 2, "layers": 1, "num_classes": 2, "in_channels": 1}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise ValueError(
                    f"net.{name} must be at least {minimum}, got {getattr(self, name)}"
                )
        if self.skeleton is Skeleton.nasbench201:
            self._check_stages()
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

    def _check_stages(self) -> None:
        if self.reductions is not None or self.stem is not Stem.cifar:
            raise ValueError(
                "a NAS-Bench-201 network has its own reductions and stem: leave net.reductions and "
                "net.stem out"
            )
        if self.layers < self.skeleton.fewest_layers or (self.layers + 1) % NUM_STAGES:
            raise ValueError(
                "net.layers of a NAS-Bench-201 network must be 3 N + 2 (N cells in each of 3 "
                f"stages and 2 residual blocks): 5, 8, 11, 14, 17, ...; got {self.layers}"
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
        reduction = REDUCE if self.skeleton is Skeleton.darts else RESIDUAL
        return tuple(reduction if i in reductions else NORMAL for i in range(self.layers))

    @property
    def searched_kinds(self) -> frozenset[str]:
        """Kinds of cells that a space or a genotype must have."""
        return frozenset(self.kinds) - {RESIDUAL}

    @property
    def stem_channels(self) -> int:
        """Channels that leave the stem: 3 C for small images, C for ImageNet and NAS-Bench-201."""
        is_wide = self.stem is Stem.cifar and self.skeleton is Skeleton.darts
        return 3 * self.channels if is_wide else self.channels

    def plan(self, num_outputs: Mapping[str, int]) -> tuple[CellPlan, ...]:
        """Every cell's place.

        Args:
            num_outputs: Number of states that a cell of each kind concatenates.
        """
        plans = []
        before, last = self.stem_channels, self.stem_channels
        channels, halves = self.channels, self.stem is Stem.imagenet
        for kind in self.kinds:
            channels = channels if kind == NORMAL else 2 * channels
            states = (before, last)[-self.skeleton.num_inputs :]
            plans.append(CellPlan(kind, channels, states, halves and len(states) == 2))
            before, last, halves = last, num_outputs.get(kind, 1) * channels, kind == REDUCE
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
