"""What each operation on each edge adds to the score of whole cells: sampled main effects.

Cells are drawn so that every operation occurs on every edge about equally often, each is scored,
and the scores' ranks are regressed on which operations a cell has:

    y = X beta + noise,   X [cells, (kind, edge, operation)] one-hot with centred columns,
    beta = (X^T X + ridge I)^-1 X^T y.

An effect is thus an average over what stands on all other edges, where leave-one-out pruning asks
at one place of the space only.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.scoring.correlation import ranks
from darts_gdas.space import NONE, CellGenotype, CellSpace, Edge, Genotype, SearchSpace


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """Main effects of one score, in standard deviations of the ranks.

    Attributes:
        mean: Per kind [edges, candidates]; 0 where a candidate was not drawn (`none`, or one
            that an edge does not have).
        standard_error: The standard error of each effect, by the residuals of the regression.
        drawn: How often each was drawn.
        explained: Share of the ranks' variance that the effects explain (R squared).
    """

    mean: Mapping[str, Float[Tensor, "edges candidates"]]
    standard_error: Mapping[str, Float[Tensor, "edges candidates"]]
    drawn: Mapping[str, Float[Tensor, "edges candidates"]]
    explained: float

    def logits(
        self, *, temperature: float = 1.0, cap: float = 2.0
    ) -> dict[str, Float[Tensor, "edges candidates"]]:
        """First alphas: effects over their standard deviation and the temperature, capped.

        A candidate that was not drawn gets the mean, 0.

        Args:
            temperature: Above 1 nearer to uniform, below 1 nearer to a decision.
            cap: Largest absolute value, so that the search can still change every choice.
        """
        chosen = torch.cat([self.mean[kind][self.drawn[kind] > 0] for kind in self.mean])
        scale = chosen.std() if len(chosen) > 1 else chosen.new_zeros(())
        scale = float(scale) * temperature or 1.0
        return {kind: (mean / scale).clamp(-cap, cap) for kind, mean in self.mean.items()}


def sample_balanced(space: SearchSpace, count: int, seed: int) -> list[Genotype]:
    """Random genotypes in which operations and kept edges occur equally often, as far as it goes.

    On every edge each operation but `none` is drawn by turns, in a random order, and so are each
    node's sets of incoming edges; what meets what is random.

    Args:
        space: What to draw from.
        count: How many, not necessarily distinct.
        seed: A function of it alone.
    """
    rng = random.Random(seed)
    cells = {kind: _balanced_cells(cell, count, rng) for kind, cell in space.cells.items()}
    return [space.genotype({kind: cells[kind][i] for kind in cells}) for i in range(count)]


def _balanced_cells(space: CellSpace, count: int, rng: random.Random) -> list[CellGenotype]:
    names = [
        _by_turns([name for name in edge if name != NONE], count, rng) for edge in space.candidates
    ]
    kept = [
        _kept_edges(space.edges_into(node), space.keep, count, rng)
        for node in range(space.num_nodes)
    ]
    return [
        CellGenotype(
            tuple(
                tuple(Edge(names[edge][i], space.edges[edge][1]) for edge in sorted(sets[i]))
                for sets in kept
            ),
            space.output,
            space.num_inputs,
        )
        for i in range(count)
    ]


def _by_turns(items: Sequence, count: int, rng: random.Random) -> list:
    """`count` items, each as often as any other up to one, in random order."""
    order: list = []
    while len(order) < count:
        order += rng.sample(list(items), len(items))
    order = order[:count]
    rng.shuffle(order)
    return order


def _kept_edges(
    edges: range, keep: int | None, count: int, rng: random.Random
) -> list[Sequence[int]]:
    """Sets of `keep` edges: dealt from shuffled packs, so that each edge is kept equally often."""
    if keep is None or keep == len(edges):
        return [edges] * count
    sets: list[Sequence[int]] = []
    pack: list[int] = []
    for _ in range(count):
        chosen = pack[:keep]
        pack = pack[keep:]
        if len(chosen) < keep:  # the rest of one pack, filled up from the next
            pack = rng.sample(list(edges), len(edges))
            fill = [edge for edge in pack if edge not in chosen][: keep - len(chosen)]
            chosen += fill
            pack = [edge for edge in pack if edge not in fill]
        sets.append(chosen)
    return sets


def main_effects(
    space: SearchSpace,
    genotypes: Sequence[Genotype],
    scores: Sequence[float],
    *,
    ridge: float = 3.0,
) -> Effects:
    """Regress ranks of scores on the operations of cells; see the module.

    Args:
        space: The space that the cells are from.
        genotypes: What was scored.
        scores: Larger is better; only their order counts. -inf is worst.
        ridge: Shrinks effects that are seen seldom; in units of one occurrence.

    Raises:
        ValueError: If the numbers of cells and scores differ, or there are fewer than 3.
    """
    if len(genotypes) != len(scores) or len(scores) < 3:
        raise ValueError(
            "effects need at least 3 cells and one score each, "
            f"got {len(genotypes)} cells and {len(scores)} scores"
        )
    present = torch.stack([_indicator(space, genotype) for genotype in genotypes])
    y = _standardised_ranks(scores)
    x = present - present.mean(0)
    gram = x.T @ x
    inverse = torch.linalg.inv(gram + ridge * torch.eye(len(gram), dtype=gram.dtype))
    beta = inverse @ x.T @ y
    residual = y - x @ beta
    freedom = len(y) - 1 - float(torch.trace(inverse @ gram))
    variance = float(residual @ residual) / max(freedom, 1.0)
    error = (variance * (inverse @ gram @ inverse).diagonal()).clamp_min(0).sqrt()
    explained = 1 - float(residual @ residual) / max(float(y @ y), 1e-300)
    beta, error = (torch.where(present.any(0), v, 0.0) for v in (beta, error))
    return Effects(
        _by_kind(space, beta), _by_kind(space, error), _by_kind(space, present.sum(0)), explained
    )


def _indicator(space: SearchSpace, genotype: Genotype) -> Float[Tensor, " features"]:
    """1 for each (kind, edge, candidate) that a genotype has."""
    flat = []
    for kind, cell in space.cells.items():
        has = torch.zeros(len(cell.edges), cell.num_candidates, dtype=torch.float64)
        for node, edges in enumerate(genotype.cells[kind].nodes):
            into = {cell.edges[edge][1]: edge for edge in cell.edges_into(node)}
            for edge in edges:
                position = into[edge.source]
                has[position, cell.candidates[position].index(edge.op)] = 1
        flat.append(has.flatten())
    return torch.cat(flat)


def _by_kind(space: SearchSpace, flat: Tensor) -> dict[str, Tensor]:
    shapes = {kind: (len(c.edges), c.num_candidates) for kind, c in space.cells.items()}
    parts = flat.split([rows * columns for rows, columns in shapes.values()])
    return {kind: part.view(shapes[kind]) for kind, part in zip(shapes, parts, strict=True)}


def _standardised_ranks(scores: Sequence[float]) -> Float[Tensor, " cells"]:
    y = torch.from_numpy(ranks(scores))
    y = y - y.mean()
    deviation = y.std(correction=0)
    return y / deviation if deviation > 0 else y
