"""Search spaces: what can be wired to what, by which operations, and what derivation keeps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from darts_gdas.space.frozen import FrozenDict
from darts_gdas.space.genotype import CellGenotype, Edge, Genotype

NONE = "none"
"""The candidate that removes an edge. It competes for weight; few spaces let it be derived."""

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

Item = TypeVar("Item")


class UniformSource(Protocol):
    """Anything with `random() -> float` in [0, 1): `random.Random`, `numpy.random.Generator`."""

    def random(self) -> float:
        """The next number."""
        ...


@dataclass(frozen=True, slots=True)
class CellSpace:
    """The cells one kind can become: every node wired to all its predecessors.

    Attributes:
        candidates: Operation names, per edge in the order of `edges`. A flat sequence of names
            means the same candidates on every edge.
        num_nodes: Intermediate nodes. Liu et al. use 4.
        num_inputs: States that enter the cell. Liu et al. use the last two cells' outputs.
        keep: Incoming edges that derivation keeps per node; None keeps every edge.
        derives_none: Whether `none` can be an edge's final operation, which leaves the edge out.
        ends_in_last_node: The last node alone leaves the cell, in place of all nodes side by side.

    Raises:
        ValueError: If `keep` exceeds the first node's predecessors, or an edge has no candidate
            that can be derived.

    Reference:
        Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055, section 2.1.
    """

    candidates: tuple[tuple[str, ...], ...]
    num_nodes: int = 4
    num_inputs: int = 2
    keep: int | None = 2
    derives_none: bool = False
    ends_in_last_node: bool = False

    def __post_init__(self) -> None:
        if self.num_nodes < 1:
            raise ValueError(f"space.num_nodes must be at least 1, got {self.num_nodes}")
        if self.num_inputs < 1:
            raise ValueError(f"space.num_inputs must be at least 1, got {self.num_inputs}")
        if self.keep is not None and not 1 <= self.keep <= self.num_inputs:
            raise ValueError(
                f"space.keep must lie in 1..{self.num_inputs}, got {self.keep}: "
                f"the first node has only {self.num_inputs} predecessors"
            )
        object.__setattr__(self, "candidates", self._per_edge(self.candidates))
        for names in self.candidates:
            _check_candidates(names)

    def _per_edge(self, candidates: Sequence[str] | Sequence[Sequence[str]]):
        if isinstance(candidates, str) or len({isinstance(c, str) for c in candidates}) > 1:
            raise ValueError(
                f"space.candidates must be a list of names, or a list of such lists, one per edge; "
                f"got {candidates!r}"
            )
        if all(isinstance(name, str) for name in candidates):
            return (tuple(candidates),) * len(self.edges)
        if len(candidates) != len(self.edges):
            raise ValueError(
                f"space.candidates must hold one list per edge, {len(self.edges)} here, "
                f"got {len(candidates)}"
            )
        return tuple(tuple(names) for names in candidates)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All (node, source) pairs; their order is that of every "edges" axis in the project."""
        return tuple(
            (node, source)
            for node in range(self.num_nodes)
            for source in range(self.num_inputs + node)
        )

    def edges_into(self, node: int) -> range:
        """Indices into `edges` of a node's incoming edges, in order of their source."""
        start = node * self.num_inputs + node * (node - 1) // 2
        return range(start, start + self.num_inputs + node)

    @property
    def num_candidates(self) -> int:
        """Width of the "candidates" axis: the longest list of candidates of any edge."""
        return max(len(names) for names in self.candidates)

    @property
    def output(self) -> tuple[int, ...]:
        """States concatenated into the cell's output: all nodes, or the last one."""
        states = tuple(range(self.num_inputs, self.num_inputs + self.num_nodes))
        return states[-1:] if self.ends_in_last_node else states

    @property
    def num_cells(self) -> int:
        """How many different cells derivation can return."""
        return math.prod(self._num_choices(node) for node in range(self.num_nodes))

    def _num_choices(self, node: int) -> int:
        """Sum over the kept edge sets of the product of their candidates' numbers."""
        derivable = [len(self.derivable(edge)) for edge in self.edges_into(node)]
        kept = len(derivable) if self.keep is None else self.keep
        symmetric = [1] + [0] * kept  # elementary symmetric polynomials of the counts
        for count in derivable:
            for k in range(kept, 0, -1):
                symmetric[k] += symmetric[k - 1] * count
        return symmetric[kept]

    def derivable(self, edge: int) -> tuple[str, ...]:
        """The candidates of an edge that can be final: without `none`, unless the space has it."""
        return tuple(name for name in self.candidates[edge] if self.derives_none or name != NONE)

    def sample(self, rng: UniformSource) -> CellGenotype:
        """A random cell: `keep` distinct sources per node, a candidate on each, all uniform."""
        nodes = []
        for node in range(self.num_nodes):
            into = self.edges_into(node)
            kept = sorted(_choose(into, len(into) if self.keep is None else self.keep, rng))
            nodes.append(
                tuple(
                    Edge(_choose(self.derivable(edge), 1, rng)[0], self.edges[edge][1])
                    for edge in kept
                )
            )
        return CellGenotype(tuple(nodes), self.output, self.num_inputs)


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """One cell space per kind of cell.

    Attributes:
        cells: The space of each kind, for example "normal" and "reduce".

    Example:
        >>> space = SearchSpace.named("darts")
        >>> len(space.edges), space.cells["normal"].num_cells
        (14, 1037664180)
    """

    cells: Mapping[str, CellSpace]

    def __post_init__(self) -> None:
        if not self.cells:
            raise ValueError("a search space needs at least one kind of cell")
        object.__setattr__(self, "cells", FrozenDict(self.cells))

    @classmethod
    def named(cls, name: str) -> "SearchSpace":
        """A published space with its paper's settings. Known: "darts", "nasbench201"."""
        known = {"darts": cls.darts, "nasbench201": cls.nasbench201}
        if name not in known:
            raise ValueError(f"unknown space {name!r}; known: {', '.join(known)}")
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

    def sample(self, rng: UniformSource) -> Genotype:
        """A random genotype: each kind's cell drawn by `CellSpace.sample`.

        Args:
            rng: `random.Random(seed)` or `numpy.random.default_rng(seed)`.
        """
        return Genotype({kind: cell.sample(rng) for kind, cell in self.cells.items()})


def _check_candidates(names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"space.candidates must be distinct, got {list(names)}")
    if not set(names) - {NONE}:
        raise ValueError(
            f"space.candidates must offer something besides {NONE!r} on every edge, "
            f"got {list(names)}"
        )


def _choose(items: Sequence[Item], count: int, rng: UniformSource) -> list[Item]:
    """`count` distinct items, every subset equally likely."""
    pool = list(items)
    return [pool.pop(int(rng.random() * len(pool))) for _ in range(count)]
