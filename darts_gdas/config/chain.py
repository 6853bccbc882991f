"""The configuration of a space that is a chain of blocks."""

from dataclasses import dataclass, field
from typing import Any

from darts_gdas.config.network import NetConfig, SpaceConfig
from darts_gdas.nets import CHAIN
from darts_gdas.nets.operations import CHANNEL_CHANGERS, check_operations
from darts_gdas.space import CHAIN_CANDIDATES, SearchSpace


@dataclass
class ChainSpace(SpaceConfig):
    """A chain of blocks, each with candidates of its own.

    Attributes:
        layers: `net.layers`: the number of blocks.
        reductions: `net.reductions`: which of them halve the resolution.
        widths: `net.widths`: the channels of each.
        candidates: Names for all blocks, of which a block that changes channels or resolution
            takes those that can; or one list of names per block.
    """

    layers: int = 6
    reductions: Any = None  # a list or null, which `net` checks
    widths: Any = None
    candidates: list[Any] = field(default_factory=lambda: list(CHAIN_CANDIDATES))

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> SearchSpace:
        """The space."""
        net = NetConfig(layers=self.layers, reductions=self.reductions, widths=self.widths)
        plans = net.layout(CHAIN, num_classes=2, in_channels=1).plan({})
        changes = [plan.stride > 1 or plan.in_channels[0] != plan.channels for plan in plans]
        blocks = _candidates_of_blocks(self.candidates, changes)
        check_operations({name for names in blocks for name in names}, "space.candidates")
        return SearchSpace.chain(blocks)


def _candidates_of_blocks(candidates: list[Any], changes: list[bool]) -> list[list[str]]:
    """Names for each block, by whether it changes the shape."""
    if not any(isinstance(names, list) for names in candidates):
        able = [name for name in candidates if name in CHANNEL_CHANGERS]
        return [able if shape_changes else candidates for shape_changes in changes]
    if len(candidates) != len(changes) or not all(isinstance(names, list) for names in candidates):
        raise ValueError(
            "space.candidates must be a list of names, or one such list for each of "
            f"{len(changes)} blocks, got {candidates}"
        )
    for i, (names, shape_changes) in enumerate(zip(candidates, changes, strict=True)):
        unable = [name for name in names if name not in CHANNEL_CHANGERS]
        if shape_changes and unable:
            raise ValueError(
                f"space.candidates: block {i} changes channels or resolution, so it cannot be one "
                f"of {unable}"
            )
    return candidates
