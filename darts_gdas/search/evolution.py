"""Regularised evolution: change a cell a little, keep the young ones."""

import random
from collections import deque
from dataclasses import dataclass, replace

from darts_gdas.search.judges import JudgedSelection, Trials
from darts_gdas.space import CellGenotype, CellSpace, Edge, Genotype, SearchSpace


@dataclass
class Evolution(JudgedSelection):
    """Tournaments in a population whose oldest cell dies in each round (aging evolution).

    The first `population` cells are random. In each round after, `tournament` members are drawn
    with replacement, and a mutant of the best of them takes the place of the oldest member. The
    answer is the best cell of all.

    Attributes:
        population: Members. The paper takes 100, AutoDL-Projects 10 on NAS-Bench-201.
        tournament: Members that compete to be the parent. The paper takes 25, AutoDL-Projects 3.

    Reference:
        Real et al., AAAI 2019, https://arxiv.org/abs/1802.01548, algorithm 1.
    """

    population: int = 10
    tournament: int = 3

    def __post_init__(self) -> None:
        JudgedSelection.__post_init__(self)
        for name in ("population", "tournament"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"discretizer.{name} must be at least 1, got {getattr(self, name)}"
                )
        if self.population > self.count:
            raise ValueError(
                f"discretizer.population={self.population} exceeds discretizer.count={self.count}: "
                "all cells would be random; take a larger count, or discretizer=best_of_samples"
            )

    def explore(self, trials: Trials) -> None:
        """Random cells, then mutants."""
        space, rng = trials.trained.space, trials.trained.rng
        members: deque[tuple[float, Genotype]] = deque(maxlen=self.population)
        for _ in range(self.population):
            genotype = space.sample(rng)
            members.append((trials(genotype), genotype))
        for _ in range(self.count - self.population):
            rivals = rng.choices(members, k=self.tournament)
            parent = max(rivals, key=lambda member: member[0])[1]
            child = mutated(parent, space, rng)
            members.append((trials(child), child))


def mutated(genotype: Genotype, space: SearchSpace, rng: random.Random) -> Genotype:
    """A cell with one change on one edge: another operation, or another state that it reads.

    Which edge, which of the two where both are possible, and to what: all uniform. Where the edge
    from the other state does not offer the operation, it gets any that it offers. In a space of one
    cell that cell comes back.

    Args:
        genotype: Out of the space.
        space: Says what an edge may become.
        rng: Draws the change.

    Reference:
        Real et al., AAAI 2019, section "Search space".
    """
    places = [
        (kind, node, position, changes)
        for kind, cell in space.cells.items()
        for node, edges in enumerate(genotype.cells[kind].nodes)
        for position in range(len(edges))
        if (changes := _changes(genotype.cells[kind], cell, node, position))
    ]
    if not places:
        return genotype
    kind, node, position, changes = rng.choice(places)
    cell = genotype.cells[kind]
    edges = list(cell.nodes[node])
    edges[position] = rng.choice(rng.choice(changes))
    nodes = list(cell.nodes)
    nodes[node] = tuple(sorted(edges, key=lambda edge: edge.source))
    cells = {name: genotype.cells[name] for name in space.cells}
    return space.genotype({**cells, kind: replace(cell, nodes=tuple(nodes))})


def _changes(cell: CellGenotype, space: CellSpace, node: int, position: int) -> list[list[Edge]]:
    """What an edge may become, by the sort of change; sorts without any are left out."""
    old = cell.nodes[node][position]
    offered = {space.edges[edge][1]: space.derivable(edge) for edge in space.edges_into(node)}
    taken = {edge.source for edge in cell.nodes[node]}
    other = [Edge(op, old.source) for op in offered[old.source] if op != old.op]
    rewired = [
        Edge(op, source)
        for source, ops in offered.items()
        if source not in taken
        for op in ((old.op,) if old.op in ops else ops)
    ]
    return [sort for sort in (other, rewired) if sort]
