"""The weight-sharing network: every candidate on every edge, run with a given mixture."""

from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.nets.layout import CellPlan, Layout, build_inputs, build_stem
from darts_gdas.nets.mixture import CellMixture, Mixture
from darts_gdas.nets.operations import (
    Zero,
    candidate,
    check_operations,
)
from darts_gdas.space import CellSpace, SearchSpace


class MixedEdge(nn.Module):
    """All candidates of one edge.

    Attributes:
        candidates: The modules by operation name, in the order of the space's candidates.
    """

    def __init__(self, names: Sequence[str], channels: int, stride: int) -> None:
        super().__init__()
        self.candidates = nn.ModuleDict({name: candidate(name, channels, stride) for name in names})
        self.zero = Zero(stride)

    def forward(self, x: Tensor, weights: Sequence[Tensor], active: int | None) -> Tensor:
        """Weighted sum of the candidates that run; `none` never costs anything."""
        terms = [
            weights[i] * operation(x)
            for i, operation in enumerate(self.candidates.values())
            if active in (None, i) and not isinstance(operation, Zero)
        ]
        return reduce(torch.add, terms) if terms else self.zero(x)


class SearchCell(nn.Module):
    """A cell whose edges are mixtures."""

    def __init__(self, space: CellSpace, plan: CellPlan) -> None:
        super().__init__()
        self.space = space
        self.inputs = build_inputs(plan, affine=False)
        self.edges = nn.ModuleList(
            MixedEdge(names, plan.channels, plan.stride if source < space.num_inputs else 1)
            for names, (_, source) in zip(space.candidates, space.edges, strict=True)
        )

    def forward(self, inputs: Sequence[Tensor], mixture: CellMixture) -> Tensor:
        """The concatenated output of one cell, from (c_{k-2}, c_{k-1})."""
        weights = [row.unbind() for row in mixture.ops.unbind()]
        states = [module(x) for module, x in zip(self.inputs, inputs, strict=True)]
        for node in range(self.space.num_nodes):
            incoming = []
            for edge in self.space.edges_into(node):
                _, source = self.space.edges[edge]
                active = None if mixture.active is None else mixture.active[edge]
                y = self.edges[edge](states[source], weights[edge], active)
                incoming.append(y if mixture.edges is None else mixture.edges[edge] * y)
            states.append(reduce(torch.add, incoming))
        return torch.cat([states[i] for i in self.space.output], dim=1)


class SuperNet(nn.Module):
    """All networks of a search space in one, sharing weights.

    It owns weights only. How much of each candidate runs is the argument `mixture`, so the same
    network serves every method, and an optimiser over `parameters()` never touches an alpha.

    Args:
        space: The cells to search, kinds "normal" and "reduce".
        layout: The outer network.

    Reference:
        Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055, section 2.2, eq. (2).
    """

    def __init__(self, space: SearchSpace, layout: Layout) -> None:
        super().__init__()
        missing = set(layout.kinds) - set(space.cells)
        if missing:
            raise ValueError(
                f"the layout needs cells of kind {sorted(missing)}, the space has none"
            )
        inputs = {kind: cell.num_inputs for kind, cell in space.cells.items()}
        if set(inputs.values()) != {2}:
            raise ValueError(f"this network feeds two states to a cell, the space takes {inputs}")
        for kind, cell in space.cells.items():
            names = {name for edge in cell.candidates for name in edge}
            check_operations(names, f"the {kind} cell's space.candidates")
        self.space = space
        self.layout = layout
        outputs = {kind: len(cell.output) for kind, cell in space.cells.items()}
        plans = layout.plan(outputs)
        self.stem = build_stem(layout)
        self.cells = nn.ModuleList(SearchCell(space.cells[plan.kind], plan) for plan in plans)
        features = outputs[plans[-1].kind] * plans[-1].channels
        self.classifier = nn.Linear(features, layout.num_classes)

    @classmethod
    def build(
        cls,
        space: SearchSpace,
        *,
        channels: int = 16,
        layers: int = 8,
        num_classes: int = 10,
        in_channels: int = 3,
    ) -> "SuperNet":
        """A supernet for small images; the defaults are the DARTS paper's for CIFAR-10."""
        return cls(space, Layout(channels, layers, num_classes, in_channels))

    def forward(
        self, images: Float[Tensor, "batch channels height width"], mixture: Mixture
    ) -> Float[Tensor, "batch classes"]:
        """Logits of every image under the mixture.

        Raises:
            ValueError: If the mixture does not fit the space.
        """
        self._check(mixture)
        states = self.stem(images)
        for kind, cell in zip(self.layout.kinds, self.cells, strict=True):
            states = (states[1], cell(states, mixture[kind]))
        return self.classifier(states[1].mean(dim=(2, 3)))

    def _check(self, mixture: Mixture) -> None:
        for kind, cell in self.space.cells.items():
            expected = (len(cell.edges), cell.num_candidates)
            if kind not in mixture or mixture[kind].ops.shape != expected:
                got = tuple(mixture[kind].ops.shape) if kind in mixture else "nothing"
                raise ValueError(
                    f"the mixture of kind {kind!r} must have shape {expected} "
                    f"(edges, candidates), got {got}"
                )
            edges, active = mixture[kind].edges, mixture[kind].active
            if edges is not None and edges.shape != expected[:1]:
                raise ValueError(
                    f"the edge weights of kind {kind!r} must have shape {expected[:1]}, "
                    f"got {tuple(edges.shape)}"
                )
            if active is not None and not _fits(active, cell):
                raise ValueError(
                    f"active of kind {kind!r} must name one candidate of each of the "
                    f"{expected[0]} edges by its index, got {active}"
                )


def _fits(active: tuple[int, ...], cell: CellSpace) -> bool:
    return len(active) == len(cell.candidates) and all(
        0 <= i < len(names) for i, names in zip(active, cell.candidates, strict=True)
    )
