"""The weight-sharing network: every candidate on every edge, run with a given mixture."""

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.nets.blocks import build_inputs
from darts_gdas.nets.candidates import State, after_relu
from darts_gdas.nets.concatenated import rectified
from darts_gdas.nets.convolution import use_kernels
from darts_gdas.nets.derived import DerivedCell
from darts_gdas.nets.dropout import SkipDropout
from darts_gdas.nets.formats import channels_last
from darts_gdas.nets.fused import CellWeights, group_edges, leave
from darts_gdas.nets.layout import CellPlan, Layout
from darts_gdas.nets.mixture import Mixture
from darts_gdas.nets.nodes import Summand, total
from darts_gdas.nets.operations import OPERATIONS, check_operations
from darts_gdas.nets.partial import (
    check_partial_channels,
    first_channels,
    passing_channels,
    shuffled,
)
from darts_gdas.nets.recompute import recomputed
from darts_gdas.nets.statistics import StatisticsUpdate
from darts_gdas.space import CellSpace, SearchSpace


class MixedEdge(nn.Module):
    """All candidates of one edge: what it holds, not how it is computed.

    Attributes:
        candidates: The modules by operation name, in the order of the space's candidates.
    """

    def __init__(
        self, names: Sequence[str], place: tuple[int, int, int], partial_channels: int
    ) -> None:
        super().__init__()
        before, channels, stride = place
        before, channels = before // partial_channels, channels // partial_channels
        made = {name: OPERATIONS[name].candidate(channels, stride, before) for name in names}
        self.candidates = nn.ModuleDict(made)


class SearchCell(nn.Module):
    """A cell whose edges are mixtures.

    Every node is the sum of its incoming edges, every edge the weighted sum of its candidates;
    `nets.fused` computes them in an order of its own.
    """

    def __init__(self, space: CellSpace, plan: CellPlan, *, partial_channels: int = 1) -> None:
        super().__init__()
        self.space = space
        self.stride = plan.stride
        self.partial_channels = partial_channels
        self.channels = plan.channels // partial_channels  # of the candidates
        self.nodes = [node for node, _ in space.edges]
        self.inputs = build_inputs(plan, affine=False)
        self.edges = nn.ModuleList(
            MixedEdge(names, plan.edge_from(source), partial_channels)
            for names, (_, source) in zip(space.candidates, space.edges, strict=True)
        )

    def _stride(self, source: int) -> int:
        """The stride of all edges that leave a state."""
        return self.stride if source < self.space.num_inputs else 1

    def forward(self, inputs: Sequence[Tensor], weights: CellWeights, *, rectify: bool) -> Tensor:
        """The output of one cell, from the states that enter it.

        Args:
            inputs: The states. In a DARTS network all that reads a cell's output begins with a
                ReLU, so it has been taken, once, where the state was made.
            weights: The mixture, arranged by source.
            rectify: Return the output after a ReLU.
        """
        update = StatisticsUpdate()
        before = [after_relu(m, x, update) for m, x in zip(self.inputs, inputs, strict=True)]
        states = [State(x) for x in before]
        first_node = len(states)
        edges = [cast(MixedEdge, edge).candidates for edge in self.edges]
        incoming: list[list[Summand]] = [[] for _ in range(self.space.num_nodes)]
        passing: list[list[Tensor]] = [[] for _ in range(self.space.num_nodes)]
        drop = weights.dropout and weights.dropout.start(before[0].device)
        for source in range(first_node + self.space.num_nodes):
            if source >= first_node:  # all edges into this node have been computed
                node = source - first_node
                states.append(State(self._node(incoming[node], passing[node], before[0], update)))
            state = states[source]
            if self.partial_channels > 1:
                self._pass_by(state.x, source, weights.bypass, passing)
                state = State(first_channels(state.x, self.channels))
            for group in weights.groups[source]:
                outputs = leave(state, group, edges, update, drop)
                for edge, y in zip(group.edges, outputs, strict=True):
                    incoming[self.nodes[edge]].append(y)
        update.apply()
        outgoing = [states[i] for i in self.space.output]
        if rectify and not any("relu" in state.made for state in outgoing):
            return rectified([state.x for state in outgoing])
        parts = [state.relu() if rectify else state.x for state in outgoing]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def _node(
        self,
        incoming: Sequence[Summand],
        passing: Sequence[Tensor],
        entering: Tensor,
        update: StatisticsUpdate,
    ) -> Tensor:
        """A node's state, from what its edges computed and what passed them by."""
        silent = entering[:, : self.channels, :: self.stride, :: self.stride]
        mixed = total(incoming, update) if incoming else torch.zeros_like(silent)
        if self.partial_channels == 1:
            return mixed
        return shuffled(
            torch.cat([mixed, total([*map(Summand, passing)], update)], dim=1),
            self.partial_channels,
        )

    def _pass_by(
        self, x: Tensor, source: int, bypass: Tensor | None, passing: Sequence[list[Tensor]]
    ) -> None:
        """Hand the channels that no candidate sees to every node that reads the state."""
        rest = passing_channels(x, self.channels, stride=self._stride(source))
        for edge, (node, start) in enumerate(self.space.edges):
            if start == source:
                passing[node].append(rest if bypass is None else bypass[edge] * rest)


class SuperNet(nn.Module):
    """All networks of a search space in one, sharing weights.

    It owns weights only. How much of each candidate runs is the argument `mixture`, so the same
    network serves every method, and an optimiser over `parameters()` never touches an alpha.

    Args:
        space: The cells to search, one for each kind of the layout.
        layout: The outer network.
        checkpoint_cells: Keep only the cells' outputs for the backward pass, which computes each
            cell a second time: memory of one cell in place of all, for one more forward pass.
        partial_channels: K of PC-DARTS: only 1 / K of the channels runs through the candidates
            (`nets.partial`). 1 runs all.

    Attributes:
        run_cell: Calls a cell that is not to be computed again; the place for a compiled call.
        skip_dropout: Dropout in training mode. None in a new network; a training loop sets it.

    Reference:
        Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055, section 2.2, eq. (2).
    """

    def __init__(
        self,
        space: SearchSpace,
        layout: Layout,
        *,
        checkpoint_cells: bool = False,
        partial_channels: int = 1,
    ) -> None:
        super().__init__()
        check_partial_channels(partial_channels, layout.channels)
        layout.check_cells(space.num_inputs, "the space")
        for kind, cell in space.cells.items():
            names = {name for edge in cell.candidates for name in edge}
            check_operations(names, f"the {kind} cell's space.candidates")
        self.space = space
        self.layout = layout
        self.checkpoint_cells = checkpoint_cells
        self.partial_channels = partial_channels
        self.run_cell: Callable[..., Tensor] = _run
        self.skip_dropout: SkipDropout | None = None
        outputs = space.num_outputs
        plans = layout.plan(outputs)
        if partial_channels > 1:
            _check_passing(layout, plans)
        self.stem = layout.skeleton.build_stem(layout)
        self.cells = nn.ModuleList(self._build_cell(plan) for plan in plans)
        last = outputs[plans[-1].kind] * plans[-1].channels
        self.tail, features = layout.skeleton.build_tail(layout, last)
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
        partial_channels: int = 1,
    ) -> "SuperNet":
        """A supernet for small images; the defaults are the DARTS paper's for CIFAR-10.

        Cells with one input stand in NAS-Bench-201's outer network, which takes 3 N + 2 layers; a
        chain has as many layers as the space has blocks.
        """
        layout = Layout.of(space, channels, layers, num_classes, in_channels)
        return cls(space, layout, partial_channels=partial_channels)

    def _build_cell(self, plan: CellPlan) -> nn.Module:
        """What stands at one place; all kinds of it are called alike."""
        if plan.kind not in self.layout.searched_kinds:
            fixed = self.layout.skeleton.fixed[plan.kind](plan)
        elif plan.kind in self.space.fixed:
            fixed = DerivedCell(self.space.fixed[plan.kind], plan)
        else:
            cell = self.space.cells[plan.kind]
            return SearchCell(cell, plan, partial_channels=self.partial_channels)
        use_kernels(fixed)
        return fixed

    def forward(
        self, images: Float[Tensor, "batch channels height width"], mixture: Mixture
    ) -> Float[Tensor, "batch classes"]:
        """Logits of every image under the mixture.

        Raises:
            ValueError: If the mixture does not fit the space.
        """
        self._check(mixture)
        states = self.layout.skeleton.enter(self.stem, channels_last(images))
        weights = {
            kind: cycle(
                [
                    CellWeights(
                        group_edges(cell, part), part.edges if self.partial_channels > 1 else None
                    )
                    for part in mixture[kind].parts
                ]
            )
            for kind, cell in self.space.cells.items()
        }
        rectifies = self.layout.skeleton.rectifies
        for i, (kind, cell) in enumerate(zip(self.layout.kinds, self.cells, strict=True)):
            rectify = rectifies and i + 1 < len(self.cells)
            run = recomputed if self.checkpoint_cells and torch.is_grad_enabled() else self.run_cell
            of_cell = next(weights[kind]) if kind in weights else None
            if of_cell is not None and self.skip_dropout is not None and self.training:
                of_cell = of_cell._replace(dropout=self.skip_dropout.of_cell(i))
            states = (*states[1:], run(cell, states, of_cell, rectify))
        return self.classifier(self.tail(states[-1]).mean(dim=(2, 3)))

    def _check(self, mixture: Mixture) -> None:
        for kind, cell in self.space.cells.items():
            expected = (len(cell.edges), cell.num_candidates)
            per_cell = (self.layout.kinds.count(kind), *expected)
            if kind not in mixture or mixture[kind].ops.shape not in (expected, per_cell):
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


def _run(
    cell: nn.Module, states: tuple[Tensor, ...], weights: CellWeights | None, rectify: bool
) -> Tensor:
    return cell(states, weights, rectify=rectify)


def _check_passing(layout: Layout, plans: Sequence[CellPlan]) -> None:
    """Raise a `ValueError` where channels that pass a cell by would change in number."""
    for plan in plans:
        before, channels, _ = plan.edge_from(0)
        if plan.kind in layout.searched_kinds and before != channels:
            raise ValueError(
                f"partial_channels must be 1 here: {plan.kind} changes the number of channels, "
                "and those that pass its candidates by cannot"
            )


def _fits(active: tuple[int, ...], cell: CellSpace) -> bool:
    return len(active) == len(cell.candidates) and all(
        0 <= i < len(names) for i, names in zip(active, cell.candidates, strict=True)
    )
