"""The outer network: channels, cells, reductions and stem, the same for search and retraining."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from torch import Tensor, nn

from darts_gdas.nets.code import Code
from darts_gdas.reasons import check_minima
from darts_gdas.space import Genotype, SearchSpace

NORMAL, REDUCE, RESIDUAL = "normal", "reduce", "residual"


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
        kind: Key into the cells of a genotype or a search space; or that of a fixed block.
        channels: Channels of every state that is made inside the cell.
        in_channels: Channels of the states that enter, (c_{k-2}, c_{k-1}) or c_{k-1} alone.
        halves_first_input: c_{k-2} has twice the resolution of c_{k-1} and must be reduced.
        stride: What the cell divides height and width by: the stride of the edges that leave its
            inputs.
    """

    kind: str
    channels: int
    in_channels: tuple[int, ...]
    halves_first_input: bool = False
    stride: int = 1

    def edge_from(self, source: int) -> tuple[int, int, int]:
        """Channels before and after an edge that leaves a state, and its stride.

        Two states are brought to the cell's channels when they enter; a single one is read as it
        is.
        """
        if source >= len(self.in_channels):
            return self.channels, self.channels, 1
        before = self.in_channels[0] if len(self.in_channels) == 1 else self.channels
        return before, self.channels, self.stride


class Skeleton(ABC):
    """How cells stand in a network: all that is said of one outer network and of no other.

    Final classes stand in `nets.skeletons`, one file each. Nothing else asks which one it has.

    Attributes:
        name: How a stored model names it.
        num_inputs: States that a cell reads, 1 or 2.
        fewest_layers: Layers of the smallest network that has all its parts.
        paper: Channels and layers of the published network.
        rectifies: Whether all that reads a state begins with a ReLU, which is then taken once,
            where the state is made. The last cell's output stays as it is.
        one_kind_per_layer: Whether every place has a kind of its own, so that the cells say how
            many layers there are.
        stems: Which stems it can have.
        fixed: What builds the block of each kind that is never searched. It is called as cells
            are: (states, anything, rectify=...).
    """

    name: ClassVar[str]
    num_inputs: ClassVar[int]
    fewest_layers: ClassVar[int]
    paper: ClassVar[tuple[int, int]]
    rectifies: ClassVar[bool] = False
    one_kind_per_layer: ClassVar[bool] = False
    stems: ClassVar[tuple[Stem, ...]] = (Stem.cifar,)
    fixed: ClassVar[Mapping[str, Callable[[CellPlan], nn.Module]]] = {}

    @abstractmethod
    def takes(self, num_inputs: Mapping[str, int]) -> bool:
        """Whether cells stand in this skeleton where nothing else is said.

        Args:
            num_inputs: States that cells of each kind take.
        """

    @abstractmethod
    def check(self, layout: "Layout") -> None:
        """Raise a `ValueError` where a layout's numbers make no such network."""

    @abstractmethod
    def kinds(self, layout: "Layout") -> tuple[str, ...]:
        """Kind of each cell and fixed block, in order."""

    @abstractmethod
    def stem_channels(self, layout: "Layout") -> int:
        """Channels that leave the stem."""

    @abstractmethod
    def build_stem(self, layout: "Layout") -> nn.Module:
        """What precedes the first cell."""

    @abstractmethod
    def enter(self, stem: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """The states that the first cell reads, rectified where cells read such states."""

    @abstractmethod
    def build_tail(self, layout: "Layout", channels: int) -> tuple[nn.Module, int]:
        """What stands between the last cell and the pooling, and the channels that leave it."""

    @abstractmethod
    def code(self, layout: "Layout", channels: int) -> Code:
        """The parts around the cells, written out; the last cell has so many channels."""


SKELETONS: dict[str, Skeleton] = {}
"""All known skeletons by name, filled by `nets.skeletons`."""


def skeleton_of(num_inputs: Mapping[str, int]) -> Skeleton:
    """The skeleton that cells stand in where nothing else is said.

    Args:
        num_inputs: States that cells of each kind take.
    """
    takers = (skeleton for skeleton in SKELETONS.values() if skeleton.takes(num_inputs))
    return next(takers, SKELETONS["darts"])


@dataclass(frozen=True, slots=True)
class Layout:
    """A chain of cells between a stem and a linear classifier.

    Attributes:
        channels: Channels of the first cells (C in the papers); each reduction doubles them.
        layers: Number of cells (L), reductions and fixed blocks counted.
        num_classes: Outputs of the classifier.
        in_channels: Channels of the images.
        stem: What precedes the first cell.
        reductions: Positions that halve the resolution; None puts two at L // 3 and 2 L // 3.
        skeleton: How cells stand in it. NAS-Bench-201's takes 3 N + 2 layers and no `reductions`.
        widths: Channels of each cell in multiples of `channels`; None doubles them at reductions.

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
    skeleton: Skeleton = field(default_factory=lambda: SKELETONS["darts"])
    widths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        minima = {"channels": 2, "layers": 1, "num_classes": 2, "in_channels": 1}
        check_minima(self, "net.", minima)
        self.skeleton.check(self)
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
        if self.widths is not None and (len(self.widths) != self.layers or min(self.widths) < 1):
            raise ValueError(
                f"space.widths must hold one number >= 1 for each of {self.layers} blocks, "
                f"got {list(self.widths)}"
            )

    @classmethod
    def of(
        cls,
        cells: Genotype | SearchSpace,
        channels: int,
        layers: int,
        num_classes: int,
        in_channels: int = 3,
        stem: Stem = Stem.cifar,
        reductions: tuple[int, ...] | None = None,
    ) -> "Layout":
        """The network that cells stand in where nothing else is said, by its numbers.

        Cells that were chosen for their places say themselves how many there are, where they halve
        the resolution, and how wide they are.
        """
        skeleton = skeleton_of(cells.num_inputs)
        layers = len(cells.num_inputs) if skeleton.one_kind_per_layer else layers
        if cells.reductions is not None and reductions is not None:
            raise ValueError(
                f"net.reductions must be left out, got {list(reductions)}: the blocks of a chain "
                f"are chosen for a resolution that {list(cells.reductions)} halve; a search takes "
                "space.reductions"
            )
        reductions = reductions if cells.reductions is None else cells.reductions
        sizes = channels, layers, num_classes, in_channels
        return cls(*sizes, stem, reductions, skeleton, cells.widths)

    @property
    def reduction_positions(self) -> tuple[int, ...]:
        """Positions of the cells or blocks that halve the resolution."""
        if self.reductions is None:
            return (self.layers // 3, 2 * self.layers // 3)
        return self.reductions

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each cell, in order."""
        return self.skeleton.kinds(self)

    @property
    def searched_kinds(self) -> frozenset[str]:
        """Kinds that a space or a genotype must have: all but those of fixed blocks."""
        return frozenset(self.kinds) - frozenset(self.skeleton.fixed)

    @property
    def stem_channels(self) -> int:
        """Channels that leave the stem."""
        return self.skeleton.stem_channels(self)

    def channels_at(self, position: int) -> int:
        """Channels of a cell."""
        if self.widths is not None:
            return self.widths[position] * self.channels
        return self.channels * 2 ** sum(place <= position for place in self.reduction_positions)

    def plan(self, num_outputs: Mapping[str, int]) -> tuple[CellPlan, ...]:
        """Every cell's place.

        Args:
            num_outputs: Number of states that a cell of each kind concatenates.
        """
        plans, reads = [], self.skeleton.num_inputs
        before, last = self.stem_channels, self.stem_channels
        halves = self.stem is Stem.imagenet
        for position, kind in enumerate(self.kinds):
            channels, strides = self.channels_at(position), position in self.reduction_positions
            states = (before, last)[-reads:]
            plans.append(CellPlan(kind, channels, states, halves and reads == 2, 1 + strides))
            before, last, halves = last, num_outputs.get(kind, 1) * channels, strides
        return tuple(plans)

    def check_cells(self, num_inputs: Mapping[str, int], what: str) -> None:
        """Raise a `ValueError` unless cells fit: those of all kinds, and as they are fed.

        Args:
            num_inputs: States that cells of each kind take.
            what: Whose cells they are.
        """
        if self.skeleton.one_kind_per_layer and len(num_inputs) != self.layers:
            raise ValueError(
                f"net.layers must be {len(num_inputs)} here, got {self.layers}: {what} has that "
                "many blocks, one for each place"
            )
        missing = self.searched_kinds - set(num_inputs)
        if missing:
            raise ValueError(
                f"the layout needs cells of kind {sorted(missing)}, {what} has {sorted(num_inputs)}"
            )
        if set(num_inputs.values()) != {self.skeleton.num_inputs}:
            fed = "one state" if self.skeleton.num_inputs == 1 else "two states"
            raise ValueError(f"this network feeds {fed} to a cell, {what} takes {dict(num_inputs)}")

    def check_image_size(self, height: int, width: int) -> None:
        """Raise a `ValueError` where the images are too small to be reduced that often."""
        minimum = self.stem.stride * 2 ** len(self.reduction_positions)
        if min(height, width) < minimum:
            raise ValueError(
                f"images of {height}x{width} pixels are too small: {self.stem.value} stem and "
                f"{len(self.reduction_positions)} reduction cells need at least "
                f"{minimum}x{minimum}"
            )
