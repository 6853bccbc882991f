"""Search spaces: a space of cells per kind, the published ones by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from darts_gdas.space.cell import NONE, CellSpace, UniformSource
from darts_gdas.space.chain import block_kinds
from darts_gdas.space.frozen import FrozenDict
from darts_gdas.space.genotype import CellGenotype, Genotype
from darts_gdas.space.robust import ROBUST_CANDIDATES

DARTS_CANDIDATES = (
    NONE,
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)

NASBENCH201_CANDIDATES = (NONE, "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """One cell space per kind of cell.

    Attributes:
        cells: The space of each kind that is searched, for example "normal" and "reduce".
        fixed: The cell of each kind that is not; every genotype of the space has it.
        reductions: See `Genotype`, as `widths`.

    Raises:
        ValueError: If no kind is searched, or one is both searched and fixed.

    Example:
        >>> space = SearchSpace.named("darts")
        >>> len(space.edges), space.cells["normal"].num_cells
        (14, 1037664180)
    """

    cells: Mapping[str, CellSpace]
    fixed: Mapping[str, CellGenotype] = field(default_factory=dict)
    reductions: tuple[int, ...] | None = None
    widths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.cells:
            raise ValueError("a search space needs at least one kind of cell")
        both = sorted(set(self.cells) & set(self.fixed))
        if both:
            raise ValueError(f"cells of kind {both} are both searched and fixed")
        object.__setattr__(self, "cells", FrozenDict(self.cells))
        object.__setattr__(self, "fixed", FrozenDict(self.fixed))

    @classmethod
    def named(cls, name: str) -> "SearchSpace":
        """A published space with its paper's settings.

        Known: "darts", "nasbench201", and "s1" to "s4" (see `space.robust`).
        """
        known = {"darts": cls.darts, "nasbench201": cls.nasbench201}
        if name in ROBUST_CANDIDATES:
            kinds = ROBUST_CANDIDATES[name]
            return cls({kind: CellSpace(names) for kind, names in kinds.items()})  # type: ignore[arg-type]
        if name not in known:
            names = ", ".join([*known, *ROBUST_CANDIDATES])
            raise ValueError(f"unknown space {name!r}; known: {names}")
        return known[name]()

    @classmethod
    def darts(
        cls,
        *,
        num_nodes: int = 4,
        keep: int = 2,
        candidates: Sequence[str] = DARTS_CANDIDATES,
    ) -> "SearchSpace":
        """The DARTS space: normal and reduction cells with two inputs and equal candidates."""
        cell = CellSpace(tuple(candidates), num_nodes=num_nodes, keep=keep)  # type: ignore[arg-type]
        return cls({"normal": cell, "reduce": cell})

    @classmethod
    def nasbench201(cls, *, candidates: Sequence[str] = NASBENCH201_CANDIDATES) -> "SearchSpace":
        """The space of NAS-Bench-201: one kind of cell, whose 15,625 trained accuracies are known.

        One state enters, three nodes read all earlier states, every edge stays, `none` may be
        final, and the last node is the output.

        Reference:
            Dong and Yang, ICLR 2020, https://arxiv.org/abs/2001.00326, section 2.1.
        """
        cell = CellSpace(
            tuple(candidates),  # type: ignore[arg-type]
            num_nodes=3,
            num_inputs=1,
            keep=None,
            derives_none=True,
            ends_in_last_node=True,
        )
        return cls({"normal": cell})

    @classmethod
    def chain(
        cls, blocks: Sequence[Sequence[str]], reductions: Sequence[int], widths: Sequence[int]
    ) -> "SearchSpace":
        """A chain of blocks, each of a kind of its own: one operation between two states.

        Args:
            blocks: Candidates of each block, in order.
            reductions: Positions of the blocks that halve the resolution.
            widths: Channels of each block in multiples of the network's.

        Raises:
            ValueError: If `none` is among them, which would cut the chain.

        Example:
            >>> blocks = [["mbconv3_3x3", "mbconv6_3x3"], ["mbconv3_5x5"]]
            >>> space = SearchSpace.chain(blocks, reductions=[1], widths=[1, 2])
            >>> sorted(space.cells), space.cells["block0"].edges
            (['block0', 'block1'], ((0, 0),))
        """
        cells = {}
        for kind, names in zip(block_kinds(len(blocks)), blocks, strict=True):
            if NONE in names:
                raise ValueError(
                    f"space.candidates of {kind}: there is no way around a block, so it cannot be "
                    f"{NONE!r}; skip_connect is the block that changes nothing"
                )
            cells[kind] = CellSpace((tuple(names),), num_nodes=1, num_inputs=1, keep=None)
        return cls(cells, reductions=tuple(reductions), widths=tuple(widths))

    def restrict(self, candidates: Mapping[str, Mapping[int, Sequence[str]]]) -> "SearchSpace":
        """The same space with fewer candidates, by kind; see `CellSpace.restrict`.

        Example:
            >>> space = SearchSpace.named("s3")
            >>> smaller = space.restrict({"normal": {0: ["skip_connect"]}})
            >>> smaller.cells["normal"].candidates[:2]
            (('skip_connect',), ('none', 'skip_connect', 'sep_conv_3x3'))

        Raises:
            ValueError: If there is no such kind, edge or candidate, or an edge ends with none.
        """
        unknown = sorted(set(candidates) - set(self.cells))
        if unknown:
            raise ValueError(f"there are no cells of kind {unknown}, only {sorted(self.cells)}")
        cells = dict(self.cells)
        for kind, chosen in candidates.items():
            try:
                cells[kind] = cells[kind].restrict(chosen)
            except ValueError as error:
                raise ValueError(f"{kind} cell: {error}") from None
        return replace(self, cells=cells)

    def fix(self, cells: Mapping[str, CellGenotype]) -> "SearchSpace":
        """The same space with cells that are given in place of searched, by kind.

        Example:
            >>> cells = Genotype.load("GDAS_FRC").cells
            >>> space = SearchSpace.named("darts").fix({"reduce": cells["reduce"]})
            >>> sorted(space.cells), sorted(space.fixed)
            (['normal'], ['reduce'])

        Raises:
            ValueError: If there is no such kind, or no kind would be left to search.
        """
        unknown = sorted(set(cells) - set(self.cells))
        if unknown:
            raise ValueError(f"there are no cells of kind {unknown}, only {sorted(self.cells)}")
        rest = {kind: cell for kind, cell in self.cells.items() if kind not in cells}
        return replace(self, cells=rest, fixed={**self.fixed, **cells})

    def genotype(self, cells: Mapping[str, CellGenotype]) -> Genotype:
        """The genotype of these cells, one per kind that is searched, and of the fixed ones."""
        return Genotype({**cells, **self.fixed}, self.reductions, self.widths)

    @property
    def num_inputs(self) -> dict[str, int]:
        """States that enter a cell, by kind, searched or fixed."""
        return {kind: cell.num_inputs for kind, cell in {**self.cells, **self.fixed}.items()}

    @property
    def num_outputs(self) -> dict[str, int]:
        """States that leave a cell side by side, by kind, searched or fixed."""
        return {kind: len(cell.output) for kind, cell in {**self.cells, **self.fixed}.items()}

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All (node, source) pairs of a cell, where every kind is wired alike.

        Raises:
            ValueError: If the kinds differ; then ask `cells[kind].edges`.
        """
        wirings = {cell.edges for cell in self.cells.values()}
        if len(wirings) > 1:
            raise ValueError("the kinds are wired differently; ask space.cells[kind].edges")
        return next(iter(wirings))

    def offers(self, op: str) -> bool:
        """Whether an operation is a candidate on some edge."""
        return any(op in row for cell in self.cells.values() for row in cell.candidates)

    def sample(self, rng: UniformSource) -> Genotype:
        """A random genotype: each kind's cell drawn by `CellSpace.sample`.

        Args:
            rng: `random.Random(seed)` or `numpy.random.default_rng(seed)`.
        """
        return self.genotype({kind: cell.sample(rng) for kind, cell in self.cells.items()})
