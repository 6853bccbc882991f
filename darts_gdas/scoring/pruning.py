"""Training-free pruning of a search space to one cell by the NTK and linear regions (TE-NAS).

A supernet starts with every candidate. Each round asks of every candidate on every edge: how does
the kernel's condition number, and how does the number of linear regions, change without it? The
two answers are ranked; on every edge the candidates go whose removal conditions the kernel best
and costs the fewest regions. When one candidate is left per edge, edges go in the same way until
each node has as many as the space keeps.

Reference:
    Chen, Gong, Wang, ICLR 2021, https://arxiv.org/abs/2102.11535, algorithm 1. The published code
    measures both in training mode, where a sample's gradient depends on the others, and does not
    draw new weights for its repeats; here norms are fixed to the batch's statistics and every
    repeat has weights of its own.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby

from darts_gdas.runtime.journal import Journal, Numbers
from darts_gdas.scoring.correlation import ranking
from darts_gdas.scoring.supernets import Measurement, Remaining, Supernets, edge_of
from darts_gdas.scoring.variants import Place
from darts_gdas.space import NONE, CellGenotype, CellSpace, Edge, Genotype, SearchSpace

MOST_TOGETHER = 28
"""Supernets that are measured together: so many that calls cost less than arithmetic."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning leaves.

    Attributes:
        space: Where it started.
        operations: The last candidate of each edge, per kind.
        kept: Whether the edge itself stays.
        warnings: What was warned of on the way.
    """

    space: SearchSpace
    operations: Mapping[str, Sequence[str]]
    kept: Mapping[str, Sequence[bool]]
    warnings: Sequence[str] = ()

    @property
    def genotype(self) -> Genotype:
        """The cell of each kind."""
        cells = {}
        for kind, cell in self.space.cells.items():
            nodes = [
                tuple(
                    Edge(self.operations[kind][edge], cell.edges[edge][1])
                    for edge in cell.edges_into(node)
                    if self.kept[kind][edge]
                )
                for node in range(cell.num_nodes)
            ]
            cells[kind] = CellGenotype(tuple(nodes), cell.output, cell.num_inputs)
        return self.space.genotype(cells)


def prune(
    space: SearchSpace,
    measurement: Measurement,
    *,
    per_round: int = 3,
    journal: Journal | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> Pruned:
    """Prune until one cell per kind is left.

    Args:
        space: Where to start.
        measurement: How to measure.
        per_round: Candidates that an edge loses in a round. The paper takes 3 on CIFAR-10.
        journal: Keeps what is measured, so that an interrupted pruning goes on where it was.
        report: Is told what is going on: a phase, measurements done, and how many there are.

    Raises:
        ValueError: If `per_round` is less than 1.
        NothingTold: If neither measure tells candidates apart.
    """
    if per_round < 1:
        raise ValueError(f"candidates pruned per round must be at least 1, got {per_round}")
    journal = Journal(None, "") if journal is None else journal
    remaining: Remaining = {
        kind: [[name for name in names if name != NONE] for names in cell.candidates]
        for kind, cell in space.cells.items()
    }
    number, warnings = 0, []
    while any(len(names) > 1 for edges in remaining.values() for names in edges):
        number += 1
        places = [place for place in _places(remaining) if len(_names(remaining, place)) > 1]
        badness, told = _measure(
            space, remaining, measurement, places, f"round {number}", journal, report
        )
        warnings += told
        for kind, edges in remaining.items():
            for edge, names in enumerate(edges):
                worst = sorted(names, key=lambda name: -badness.get((kind, edge, name), 0.0))
                goes = worst[: min(per_round, len(names) - 1)]
                edges[edge] = [name for name in names if name not in goes]
    places = _places(remaining)
    badness = {}
    if any(cell.keep is not None for cell in space.cells.values()):
        badness, told = _measure(space, remaining, measurement, places, "edges", journal, report)
        warnings += told
    operations = {kind: [names[0] for names in edges] for kind, edges in remaining.items()}
    kept = {}
    for kind, cell in space.cells.items():
        strength = [-badness.get(place, 0.0) for place in places if place[0] == kind]
        kept[kind] = _kept_edges(cell, strength)
    return Pruned(space, operations, kept, warnings)


def _places(remaining: Remaining) -> list[Place]:
    return [
        (kind, edge, name)
        for kind, edges in remaining.items()
        for edge, names in enumerate(edges)
        for name in names
    ]


def _names(remaining: Remaining, place: Place) -> list[str]:
    kind, edge, _ = place
    return remaining[kind][edge]


def _kept_edges(space: CellSpace, strength: Sequence[float]) -> list[bool]:
    kept = [False] * len(space.edges)
    for node in range(space.num_nodes):
        for edge in sorted(space.edges_into(node), key=lambda edge: -strength[edge])[: space.keep]:
            kept[edge] = True
    return kept


def _measure(
    space: SearchSpace,
    remaining: Remaining,
    measurement: Measurement,
    places: Sequence[Place],
    phase: str,
    journal: Journal,
    report: Callable[[str, int, int], None] | None,
) -> tuple[dict[Place, float], Sequence[str]]:
    """Sum of two ranks per place, the larger, the better it is to remove it; and warnings."""
    repeats = range(measurement.repeats)
    works = [(repeat, place) for repeat in repeats for place in (None, *places)]

    @lru_cache(maxsize=1)
    def networks(repeat: int) -> Supernets:
        return Supernets(space, remaining, measurement, repeat)

    def measure(batch: Sequence[int]) -> list[Numbers]:
        repeat, _ = works[batch[0]]
        return networks(repeat).measure([works[i][1] for i in batch])

    keys = [f"{phase}, repeat {repeat}, without {place}" for repeat, place in works]
    rows = journal.measure_batches(
        keys, _batches(works), measure, report and partial(report, phase)
    )
    found = dict(zip(works, rows, strict=True))

    def change(place: Place, name: str) -> float:
        """The mean over repeats, relative to the whole supernet."""
        return statistics.fmean(
            _relative(found[repeat, None][name], found[repeat, place][name]) for repeat in repeats
        )

    columns = {
        "the gain in condition": [change(place, "condition") for place in places],
        "the loss of regions": [-change(place, "regions") for place in places],
    }
    ranked = ranking(columns, f"candidates, {phase}")
    return dict(zip(places, ranked.total, strict=True)), ranked.left_out


def _relative(before: float, after: float) -> float:
    """(before - after) / before; a kernel that is singular afterwards is infinitely worse."""
    if before == float("inf"):
        return 0.0 if after == before else 1.0
    return max((before - after) / before, -1e6)


def _batches(works: Sequence[tuple[int, Place | None]]) -> list[list[int]]:
    """Positions that are measured together: edges as a whole, and of one repeat."""
    batches: list[list[int]] = []
    for _, positions in groupby(
        range(len(works)), key=lambda i: (works[i][0], edge_of(works[i][1]))
    ):
        edge = [*positions]
        fits = batches and len(batches[-1]) + len(edge) <= MOST_TOGETHER
        if fits and works[batches[-1][0]][0] == works[edge[0]][0]:
            batches[-1] += edge
        else:
            batches.append(edge)
    return batches
