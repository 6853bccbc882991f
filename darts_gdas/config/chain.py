"""The configuration of a space that is a chain of blocks."""

from dataclasses import dataclass, field
from typing import Any

from darts_gdas.config.network import SpaceConfig
from darts_gdas.nets import CHAIN, OPERATIONS, Layout
from darts_gdas.nets.operations import check_operations
from darts_gdas.space import CHAIN_CANDIDATES, SearchSpace


@dataclass
class ChainSpace(SpaceConfig):
    """A chain of blocks, each with candidates of its own.

    Attributes:
        layers: The number of blocks: `net.layers`, where a network is configured.
        reductions: Positions that halve the resolution; null puts two at L // 3 and 2 L // 3.
        widths: Channels of each block in multiples of `net.channels`; null doubles them at the
            reductions.
        candidates: Names for all blocks, of which a block that changes channels or resolution
            takes those that can; or one list of names per block.
    """

    layers: int = 6
    reductions: list[int] | None = None
    widths: list[int] | None = None
    candidates: list[Any] = field(default_factory=lambda: list(CHAIN_CANDIDATES))

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> SearchSpace:
        """The space."""
        places = (
            None if given is None else tuple(given) for given in (self.reductions, self.widths)
        )
        reductions, widths = places
        try:
            layout = Layout(2, self.layers, 2, reductions=reductions, skeleton=CHAIN, widths=widths)
        except ValueError as error:
            raise ValueError(str(error).replace("net.", "space.")) from None
        plans = layout.plan({})
        changes = [plan.edge_from(0) != (plan.channels, plan.channels, 1) for plan in plans]
        blocks = _candidates_of_blocks(self.candidates, changes)
        check_operations({name for names in blocks for name in names}, "space.candidates")
        multiples = [plan.channels // layout.channels for plan in plans]
        return SearchSpace.chain(blocks, layout.reduction_positions, multiples)


def _candidates_of_blocks(candidates: list[Any], changes: list[bool]) -> list[list[str]]:
    """Names for each block, by whether it changes the shape."""
    able = {name for name, operation in OPERATIONS.items() if operation.changes_channels}
    if not any(isinstance(names, list) for names in candidates):
        fewer = [name for name in candidates if name in able]
        return [fewer if shape_changes else candidates for shape_changes in changes]
    if len(candidates) != len(changes) or not all(isinstance(names, list) for names in candidates):
        raise ValueError(
            "space.candidates must be a list of names, or one such list for each of "
            f"{len(changes)} blocks, got {candidates}"
        )
    for i, (names, shape_changes) in enumerate(zip(candidates, changes, strict=True)):
        unable = sorted(set(names) - able)
        if shape_changes and unable:
            raise ValueError(
                f"space.candidates: block {i} changes channels or resolution, so it cannot be one "
                f"of {unable}"
            )
    return candidates
