"""Spaces of cells: what can be wired to what, by which operations, what derivation keeps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from darts_gdas.space.genotype import CellGenotype, Edge

NONE = "none"
"""The candidate that removes an edge. It competes for weight; few spaces let it be derived."""

SKIP = "skip_connect"
"""The candidate that hands a state on as it is, where the size stays."""

Item = TypeVar("Item")


class UniformSource(Protocol):
    """Anything with `random() -> float` in [0, 1): `random.Random`, `numpy.random.Generator`."""

    def random(self) -> float:
        """The next number."""
        ...


@dataclass(frozen=True, slots=True)
class CellSpace:
    """The cells one kind can become: every node wired to all its predecessors, or to some.

    Attributes:
        candidates: Operation names, per edge in the order of `edges`. A flat sequence of names
            means the same candidates on every edge.
        num_nodes: Intermediate nodes. Liu et al. use 4.
        num_inputs: States that enter the cell. Liu et al. use the last two cells' outputs.
        keep: Incoming edges that derivation keeps per node; None keeps every edge.
        derives_none: Whether `none` can be an edge's final operation, which leaves the edge out.
        ends_in_last_node: The last node alone leaves the cell, in place of all nodes side by side.
        predecessors: States that each node may read; None is every earlier state. Stored in
            ascending order, and as None where nothing is left out.

    Raises:
        ValueError: If `keep` exceeds some node's predecessors, an edge has no candidate that can be
            derived, or a node reads nothing, what is not before it, or is read by nothing.

    Reference:
        Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055, section 2.1.
    """

    candidates: tuple[tuple[str, ...], ...]
    num_nodes: int = 4
    num_inputs: int = 2
    keep: int | None = 2
    derives_none: bool = False
    ends_in_last_node: bool = False
    predecessors: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if self.num_nodes < 1:
            raise ValueError(f"space.num_nodes must be at least 1, got {self.num_nodes}")
        if self.num_inputs < 1:
            raise ValueError(f"space.num_inputs must be at least 1, got {self.num_inputs}")
        object.__setattr__(self, "predecessors", self._canonical(self.predecessors))
        fewest, node = min((len(self._sources(node)), node) for node in range(self.num_nodes))
        if self.keep is not None and not 1 <= self.keep <= fewest:
            raise ValueError(
                f"space.keep must lie in 1..{fewest}, got {self.keep}: "
                f"node {node} has only {fewest} predecessors"
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

    def _canonical(
        self, predecessors: Sequence[Sequence[int]] | None
    ) -> tuple[tuple[int, ...], ...] | None:
        if predecessors is None:
            return None
        check_predecessors(predecessors, self.num_nodes, self.num_inputs)
        chosen = tuple(tuple(sorted(sources)) for sources in predecessors)
        if self.ends_in_last_node:
            read = {source for sources in chosen for source in sources}
            for node in range(self.num_nodes - 1):
                if self.num_inputs + node not in read:
                    raise ValueError(
                        f"space.predecessors: no node reads node {node} (state "
                        f"{self.num_inputs + node}), and the last node alone leaves the cell"
                    )
        everything = all(
            len(sources) == self.num_inputs + node for node, sources in enumerate(chosen)
        )
        return None if everything else chosen

    def _sources(self, node: int) -> Sequence[int]:
        """The states that a node may read, ascending."""
        if self.predecessors is None:
            return range(self.num_inputs + node)
        return self.predecessors[node]

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All (node, source) pairs; their order is that of every "edges" axis in the project."""
        return tuple(
            (node, source) for node in range(self.num_nodes) for source in self._sources(node)
        )

    def edges_into(self, node: int) -> range:
        """Indices into `edges` of a node's incoming edges, in order of their source."""
        start = sum(len(self._sources(earlier)) for earlier in range(node))
        return range(start, start + len(self._sources(node)))

    def restrict(self, candidates: Mapping[int, Sequence[str]]) -> "CellSpace":
        """The same cells with fewer candidates on some edges, in their old order.

        Args:
            candidates: Names that stay, by position in `edges`; other edges stay as they are.

        Raises:
            ValueError: If there is no such edge, an edge never had a name, or none but `none`
                would be left on one.
        """
        rows = list(self.candidates)
        for edge, names in candidates.items():
            if not 0 <= edge < len(rows):
                raise ValueError(f"there is no edge {edge}; edges lie in 0..{len(rows) - 1}")
            foreign = sorted(set(names) - set(rows[edge]))
            if foreign:
                raise ValueError(f"edge {edge} has no candidates {foreign}, only {rows[edge]}")
            rows[edge] = tuple(name for name in rows[edge] if name in names)
            if not set(rows[edge]) - {NONE}:
                raise ValueError(f"edge {edge} would be left with {list(rows[edge])} to choose")
        return replace(self, candidates=tuple(rows))

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


def _check_candidates(names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"space.candidates must be distinct, got {list(names)}")
    if not set(names) - {NONE}:
        raise ValueError(
            f"space.candidates must offer something besides {NONE!r} on every edge, "
            f"got {list(names)}"
        )


def check_predecessors(
    predecessors: Sequence[Sequence[int]], num_nodes: int, num_inputs: int
) -> None:
    """Raise a `ValueError` unless every node reads distinct states before it, at least one."""
    if len(predecessors) != num_nodes:
        raise ValueError(
            f"space.predecessors must hold one list per node, {num_nodes} here, "
            f"got {len(predecessors)}"
        )
    for node, sources in enumerate(predecessors):
        if not sources or len(set(sources)) < len(sources):
            raise ValueError(
                f"space.predecessors of node {node} must be distinct states, at least one, "
                f"got {list(sources)}"
            )
        if not set(sources) <= set(range(num_inputs + node)):
            raise ValueError(
                f"space.predecessors of node {node} must lie in 0..{num_inputs + node - 1}, "
                f"got {list(sources)}"
            )


def _choose(items: Sequence[Item], count: int, rng: UniformSource) -> list[Item]:
    """`count` distinct items, every subset equally likely."""
    pool = list(items)
    return [pool.pop(int(rng.random() * len(pool))) for _ in range(count)]
