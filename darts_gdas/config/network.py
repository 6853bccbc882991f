"""The configuration of what is built: the space of cells and the network around them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from darts_gdas.nets import Layout, Skeleton, Stem
from darts_gdas.nets.operations import check_operations
from darts_gdas.space import DARTS_CANDIDATES, NASBENCH201_CANDIDATES, SearchSpace


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
    """

    num_nodes: int = 4
    keep: int = 2
    candidates: list[str] = field(default_factory=lambda: list(DARTS_CANDIDATES))

    def __post_init__(self) -> None:
        check_operations(set(self.candidates), "space.candidates")
        self.build()

    def build(self) -> SearchSpace:
        """The space."""
        return SearchSpace.darts(
            num_nodes=self.num_nodes, keep=self.keep, candidates=self.candidates
        )


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
class NetConfig:
    """The outer network; see `Layout`. NAS-Bench-201's takes 3 N + 2 layers."""

    channels: int = 16
    layers: int = 8
    stem: Stem = Stem.cifar

    def __post_init__(self) -> None:
        self.layout(Skeleton.darts, num_classes=2, in_channels=1)

    def layout(self, skeleton: Skeleton, *, num_classes: int, in_channels: int) -> Layout:
        """The layout for cells that stand in a skeleton, and for a data set."""
        if num_classes < 2:
            raise ValueError(f"the dataset must have at least 2 classes, got {num_classes}")
        return Layout(
            self.channels, self.layers, num_classes, in_channels, self.stem, skeleton=skeleton
        )
