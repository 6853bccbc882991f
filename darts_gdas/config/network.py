"""The configuration of what is built: the space of cells and the network around them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import nn

from darts_gdas.config.stem import StemChoice
from darts_gdas.nets import DARTS, Layout
from darts_gdas.nets.initialization import Fan, initialize
from darts_gdas.nets.layout import REDUCE, skeleton_of
from darts_gdas.nets.operations import check_operations
from darts_gdas.ntk import critical_weight_variance
from darts_gdas.space import (
    DARTS_CANDIDATES,
    NASBENCH201_CANDIDATES,
    CellGenotype,
    CellSpace,
    Genotype,
    SearchSpace,
)


@dataclass
class SpaceConfig(ABC):
    """What can be found."""

    @abstractmethod
    def build(self) -> SearchSpace:
        """The space."""


@dataclass
class DartsSpace(SpaceConfig):
    """The DARTS cell space and its numbers.

    Attributes:
        num_nodes: Intermediate nodes of a cell.
        keep: Incoming edges that derivation keeps per node.
        candidates: Operations on every edge.
        fixed_reduction: Where the reduction cell is from that all reductions take: a published
            genotype, a file or a run folder. null searches it.
    """

    num_nodes: int = 4
    keep: int = 2
    candidates: list[str] = field(default_factory=lambda: list(DARTS_CANDIDATES))
    fixed_reduction: str | None = None

    def __post_init__(self) -> None:
        check_operations(set(self.candidates), "space.candidates")
        self.build()

    def build(self) -> SearchSpace:
        """The space."""
        space = SearchSpace.darts(
            num_nodes=self.num_nodes, keep=self.keep, candidates=self.candidates
        )
        if self.fixed_reduction is None:
            return space
        return space.fix({REDUCE: load_reduction(self.fixed_reduction)})


def load_reduction(source: str) -> CellGenotype:
    """The reduction cell of a genotype, for `space.fixed_reduction`.

    Raises:
        ValueError: If there is no such genotype, or it has no such cell for a DARTS network.
    """
    try:
        genotype = Genotype.load(source)
        check_operations(genotype.operations, source)
    except ValueError as error:
        raise ValueError(f"space.fixed_reduction: {error}") from None
    cell = genotype.cells.get(REDUCE)
    if cell is None or cell.num_inputs != DARTS.num_inputs:
        raise ValueError(
            f"space.fixed_reduction={source} has no reduction cell with two inputs; take one that "
            "has, such as GDAS_FRC"
        )
    return cell


@dataclass
class NasBench201Space(SpaceConfig):
    """The space of NAS-Bench-201.

    Attributes:
        candidates: Operations on every edge.
    """

    candidates: list[str] = field(default_factory=lambda: list(NASBENCH201_CANDIDATES))

    def __post_init__(self) -> None:
        check_operations(set(self.candidates), "space.candidates")
        self.build()

    def build(self) -> SearchSpace:
        """The space."""
        return SearchSpace.nasbench201(candidates=self.candidates)


@dataclass
class PublishedSpace(SpaceConfig):
    """A published space as it is, without numbers of its own: `space=s1` to `space=s4`.

    Attributes:
        name: As in `SearchSpace.named`.
    """

    name: str = "s1"

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> SearchSpace:
        """The space."""
        return SearchSpace.named(self.name)


@dataclass
class CustomCell:
    """One kind of cell of a user's space; see `CellSpace`.

    Attributes:
        candidates: Names of operations on every edge, or one list of names per edge, in the order
            (node 0, its first source), (node 0, its second source), ...
        num_nodes: Intermediate nodes.
        num_inputs: States that enter: 2 in DARTS's outer network, 1 in NAS-Bench-201's.
        keep: Incoming edges that derivation keeps per node; null keeps every edge.
        derives_none: Whether `none` can be final.
        ends_in_last_node: The last node alone leaves the cell, in place of all side by side.
        predecessors: States that each node may read, the inputs first; null is all before it.
    """

    candidates: list[Any] = field(default_factory=list)
    num_nodes: int = 4
    num_inputs: int = 2
    keep: int | None = 2
    derives_none: bool = False
    ends_in_last_node: bool = False
    predecessors: list[list[int]] | None = None

    def build(self) -> CellSpace:
        """The space of this kind."""
        if not self.candidates:
            raise ValueError(
                "candidates must name operations, see docs/add_a_space.md; or drop this kind of "
                "cell by setting it to null"
            )
        rows = [row if isinstance(row, list) else [row] for row in self.candidates]
        names = [name for row in rows for name in row]
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"space.candidates must be names of operations, got {names}")
        check_operations(set(names), "space.candidates")
        return CellSpace(
            tuple(self.candidates),
            num_nodes=self.num_nodes,
            num_inputs=self.num_inputs,
            keep=self.keep,
            derives_none=self.derives_none,
            ends_in_last_node=self.ends_in_last_node,
            predecessors=self.predecessors,  # type: ignore[arg-type]
        )


@dataclass
class CustomSpace(SpaceConfig):
    """A user's space (docs/add_a_space.md), checked where it is built: it has no default.

    Attributes:
        normal: The cells that keep the resolution.
        reduce: The cells that halve it; null where the network has none that are searched
            (one input per cell, or `net.reductions=[]`).
    """

    normal: CustomCell = field(default_factory=CustomCell)
    reduce: CustomCell | None = field(default_factory=CustomCell)

    def build(self) -> SearchSpace:
        """The space."""
        cells = {}
        for kind, cell in (("normal", self.normal), ("reduce", self.reduce)):
            try:
                if cell is not None:
                    cells[kind] = cell.build()
            except ValueError as error:
                raise ValueError(f"space.{kind}: {error}") from None
        return SearchSpace(cells)


def check_kinds(space: SearchSpace, layout: Layout) -> None:
    """Raise a `ValueError` unless the network has a place for every kind of cell."""
    spare = sorted(set(space.num_inputs) - layout.searched_kinds)
    if spare:
        raise ValueError(
            f"space has cells of kind {spare}, but the network has a place for "
            f"{sorted(layout.searched_kinds)} alone: see net.reductions"
        )


class Initialization(Enum):
    """How a network's weights begin.

    `torch` leaves each module's own rule. `critical` draws every weight with the variance at which
    signals travel deepest through ReLU, 2 / fan_in (He et al.; `ntk.critical_weight_variance`),
    the fan of a depthwise convolution being its kernel's pixels.
    """

    torch = "torch"
    critical = "critical"


@dataclass
class NetConfig:
    """The outer network; see `Layout`. NAS-Bench-201's takes 3 N + 2 layers.

    Attributes:
        channels: Channels of the first cells.
        layers: Number of cells.
        stem: What precedes the first cell; auto goes by the size of the images.
        reductions: Positions of the reduction cells; null puts two at L // 3 and 2 L // 3.
        initialization: How the weights begin.
    """

    channels: int = 16
    layers: int = 8
    stem: StemChoice = StemChoice.auto
    reductions: list[int] | None = None
    initialization: Initialization = Initialization.torch

    def __post_init__(self) -> None:
        stem = self.stem.stem(DARTS, None)
        Layout(self.channels, self.layers, 2, stem=stem, reductions=self._positions)

    def initialize(self, net: nn.Module) -> None:
        """Draw the weights of a network that has just been built, from torch's generator."""
        if self.initialization is Initialization.critical:
            initialize(net, critical_weight_variance("relu"), mode=Fan.IN)

    @property
    def _positions(self) -> tuple[int, ...] | None:
        return None if self.reductions is None else tuple(self.reductions)

    def layout(
        self,
        cells: SearchSpace | Genotype,
        *,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int] | None = None,
    ) -> Layout:
        """The network around some cells, for a data set.

        Args:
            cells: They say how they stand.
            num_classes: Of the data set.
            in_channels: Of its images.
            image_size: Their (height, width); None where it is not known yet.
        """
        if num_classes < 2:
            raise ValueError(f"the dataset must have at least 2 classes, got {num_classes}")
        stem = self.stem.stem(skeleton_of(cells.num_inputs), image_size)
        sizes = self.channels, self.layers, num_classes, in_channels
        return Layout.of(cells, *sizes, stem, self._positions)
