"""How mixed edges are computed: the same function as edge by edge, without the waste.

Whatever leaves one state of a cell is computed together:

- the state's ReLU, its poolings and their norms are computed once, not once per edge;
- depthwise convolutions run with derivatives of their own (`nets.depthwise`);
- pointwise convolutions, norms, mixture weights and the sum over candidates are one affine map
  (`nets.pointwise`): no summand is ever formed;
- edges that run the same candidates can be stacked, their channels side by side: few large
  kernels in place of many small ones. Launches are what a GPU waits for, so there they are; on a
  CPU the copies cost more than the calls, so there every edge stays by itself;
- `none` is no work.

Parameters and running statistics stay where the edges hold them, one per edge and candidate.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import darts_gdas.native as native
from darts_gdas.nets.candidates import Leaving, SeparableConv, State
from darts_gdas.nets.constant import constant
from darts_gdas.nets.depthwise import depthwise_conv2d, depthwise_convs
from darts_gdas.nets.dropout import SkipDropout
from darts_gdas.nets.mixture import CellMixture
from darts_gdas.nets.nodes import Summand
from darts_gdas.nets.pointwise import Moments, normalized_sum
from darts_gdas.nets.pooling import normalized
from darts_gdas.nets.statistics import StatisticsUpdate, uses_batch_statistics
from darts_gdas.nets.weighted import in_one_pass
from darts_gdas.space import NONE, CellSpace

_FEW_EDGES, _FEW_NUMBERS = 2, 2**17
"""Up to how many edges, of how many numbers each, two modules are faster than an affine map."""


class Group(NamedTuple):
    """Edges that leave one state and run the same candidates.

    Attributes:
        edges: Positions in `CellSpace.edges`.
        weights: Weight of each candidate that runs, [edges] by name; never of `none`.
    """

    edges: tuple[int, ...]
    weights: dict[str, Tensor]


class CellWeights(NamedTuple):
    """A mixture as a cell takes it.

    Attributes:
        groups: By source, see `group_edges`.
        bypass: Weight of each edge [edges] for the channels that no candidate sees, where there
            are such channels; None is one each.
        dropout: Behind the skip connections of this pass; None is none.
    """

    groups: list[list[Group]]
    bypass: Tensor | None = None
    dropout: SkipDropout | None = None


def group_edges(space: CellSpace, mixture: CellMixture) -> list[list[Group]]:
    """Every edge that runs something, in groups, by the state that it leaves.

    Args:
        space: The cell.
        mixture: Its mixture.
    """
    members: dict[tuple, list[int]] = {}
    for edge, (_, source) in enumerate(space.edges):
        names = space.candidates[edge]
        if mixture.active is not None:
            names = (names[mixture.active[edge]],)
        running = tuple(name for name in names if name != NONE)
        if running:
            members.setdefault((source, running), []).append(edge)
    positions = [
        edge * mixture.ops.shape[1] + space.candidates[edge].index(name)
        for (_, running), edges in members.items()
        for name in running
        for edge in edges
    ]
    ops = mixture.edge_weighted
    chosen = constant(tuple(positions), torch.long, ops.device)
    sizes = [len(edges) for (_, running), edges in members.items() for _ in running]
    weights = iter(ops.flatten()[chosen].split(sizes))
    groups: list[list[Group]] = [[] for _ in range(space.num_inputs + space.num_nodes)]
    for (source, running), edges in members.items():
        groups[source].append(Group(tuple(edges), {name: next(weights) for name in running}))
    return groups


def stacks_edges(x: Tensor) -> bool:
    """Whether convolutions run on all edges of a group side by side, where `x` lies."""
    return x.is_cuda


def leave(
    state: State,
    group: Group,
    edges: Sequence[nn.ModuleDict],
    update: StatisticsUpdate,
    drop: Callable[[Tensor], Tensor] | None = None,
) -> list[Summand]:
    """What each edge of a group adds to the node that it leads to.

    Args:
        state: Where the edges start.
        group: The edges and their weights.
        edges: The candidates of every edge of the cell.
        update: Takes the batch's statistics.
        drop: Dropout behind a skip connection.
    """
    leaving = Leaving(state, update, drop, len(group.weights) == 1)
    for name in group.weights:
        leaving.add(name, [edges[edge][name] for edge in group.edges])
    convs, normed, shared, others = leaving.convs, leaving.normed, leaving.shared, leaving.others
    if leaving.alone and not convs:
        return _alone(leaving, *group.weights.values())
    sums: list[Tensor | None] = [None] * len(group.edges)
    found = None if convs else _weighted(group, normed, shared, update)
    if found is None:
        for name, pairs in normed.items():
            others[name] = [normalized(y, norm, update) for y, norm in pairs]
    if convs:
        rows = [group.weights[name] for name in (*convs, *shared)]
        scale = torch.stack(rows) if len(rows) > 1 else rows[0][None]
        inputs, last = _run_convs(state, [*convs.values()], update)
        parts = _mix(inputs, last, scale, [*shared.values()], update)
        if len(parts) < len(sums):  # else a view, whose gradient would be a copy
            parts = [y for part in parts for y in part.chunk(len(sums) // len(parts), dim=1)]
        sums = list(parts)
    elif found is not None:
        sums = [*found]
    else:
        others |= {name: [y] * len(sums) for name, y in shared.items()}
    for name, outputs in others.items():
        for i, (weight, y) in enumerate(zip(group.weights[name], outputs, strict=True)):
            so_far = sums[i]
            sums[i] = weight * y if so_far is None else torch.addcmul(so_far, weight, y)
    return [Summand(y) for y in sums if y is not None]


def _alone(leaving: Leaving, weights: Tensor) -> list[Summand]:
    """What edges add on which one candidate runs, as on a sampled path."""
    scale = [None] * len(weights) if _are_ones(weights) else weights.unbind()
    pairs = [pair for outputs in leaving.normed.values() for pair in outputs]
    pairs += [(y, None) for outputs in leaving.others.values() for y in outputs]
    pairs += [(y, None) for y in leaving.shared.values() for _ in scale]
    return [Summand(y, weight, norm) for (y, norm), weight in zip(pairs, scale, strict=True)]


def _weighted(
    group: Group,
    normed: dict[str, list[tuple[Tensor, nn.BatchNorm2d]]],
    shared: dict[str, Tensor],
    update: StatisticsUpdate,
) -> list[Tensor] | None:
    """Norms, weights and sums in one pass, if there is a kernel for it and something to sum."""
    weights = [group.weights[name] for name in (*normed, *shared)]
    pairs = [pair for outputs in normed.values() for pair in outputs]
    return in_one_pass(weights, pairs, [*shared.values()], update) if weights else None


def _are_ones(weights: Tensor) -> bool:
    """Whether weights are known to be one, as those of a sampled path are in the weight step."""
    is_plain = not weights.requires_grad and native.usable(weights)
    return is_plain and all(weight == 1 for weight in weights.tolist())


def _run_convs(
    state: State, convs: Sequence[Sequence[Sequence[SeparableConv]]], update: StatisticsUpdate
) -> tuple[list[list[Tensor]], list[list[SeparableConv]]]:
    """Run candidates [candidates][edges][depth] up to their last pointwise convolution.

    Returns:
        What enters it, [candidates][parts], and the blocks that it belongs to,
        [candidates][edges].
    """
    num_edges = len(convs[0])
    stacked = num_edges > 1 and stacks_edges(state.x)
    parts = [state.relu().repeat(1, num_edges, 1, 1)] if stacked else []
    inputs = []
    for candidates in convs:
        first = [blocks[0] for blocks in candidates]
        inputs.append(_depthwise(parts, first) if stacked else _depthwise_shared(state, first))
    for depth in range(1, max(len(candidates[0]) for candidates in convs)):
        deep = [i for i, candidates in enumerate(convs) if len(candidates[0]) > depth]
        before = [blocks[depth - 1] for i in deep for blocks in convs[i]]
        parts = [part for i in deep for part in inputs[i]]
        outputs = iter(_mix([parts], [before], None, (), update))
        for i in deep:
            y = [next(outputs) for _ in inputs[i]]
            inputs[i] = _depthwise(y, [blocks[depth] for blocks in convs[i]], after_relu=False)
    return inputs, [[blocks[-1] for blocks in candidates] for candidates in convs]


def _depthwise(
    parts: Sequence[Tensor], blocks: Sequence[SeparableConv], *, after_relu: bool = True
) -> list[Tensor]:
    """The depthwise convolutions of one block per edge, on parts of one or more edges each.

    Where the ReLU has not been taken, it is, and the parts are nobody else's.
    """
    conv, size = blocks[0].depthwise, len(blocks) // len(parts)
    outputs = []
    for i, x in enumerate(parts):
        weights = [block.depthwise.weight for block in blocks[i * size : (i + 1) * size]]
        weight = weights[0] if size == 1 else torch.cat(weights)
        relu = None if after_relu else partial(F.relu, x, inplace=True)
        how = {"stride": conv.stride[0], "dilation": conv.dilation[0]}
        outputs.append(depthwise_conv2d(x, weight, relu=relu, **how))
    return outputs


def _depthwise_shared(state: State, blocks: Sequence[SeparableConv]) -> list[Tensor]:
    """The depthwise convolutions of one block per edge, all of the same state."""
    conv, weights = blocks[0].depthwise, [block.depthwise.weight for block in blocks]
    how = {"stride": conv.stride[0], "dilation": conv.dilation[0]}
    return depthwise_convs(state.x, weights, relu=state.relu, **how)


def _mix(
    inputs: Sequence[Sequence[Tensor]],
    blocks: Sequence[Sequence[SeparableConv]],
    scale: Tensor | None,
    features: Sequence[Tensor],
    update: StatisticsUpdate,
) -> list[Tensor]:
    """Pointwise convolution and norm of blocks [terms][edges], weighted and summed over terms.

    Args:
        inputs: What enters the blocks, [terms][parts].
        blocks: The blocks, [terms][edges].
        scale: Weights [terms + features, edges], or None for one each.
        features: Summands that are ready.
        update: Takes the batch's statistics.
    """
    shape = len(blocks), len(blocks[0])
    weights = blocks[0][0].pointwise.weight.new_ones(shape) if scale is None else scale
    if _runs_by_itself(inputs, blocks, weights):
        outputs = [b.norm(b.pointwise(z)) for b, z in zip(blocks[0], inputs[0], strict=True)]
        if scale is None:
            return outputs
        return [weight * y for weight, y in zip(scale[0], outputs, strict=True)]
    flat = [block for term in blocks for block in term]
    norms, running = [block.norm for block in flat], None
    if not uses_batch_statistics(norms[0]):
        means, variances = (
            torch.stack([cast(Tensor, buffer) for buffer in buffers]).unflatten(0, shape)
            for buffers in zip(*((n.running_mean, n.running_var) for n in norms), strict=True)
        )
        running = Moments(means, variances)
    sums, moments = normalized_sum(
        inputs,
        [[block.pointwise.weight for block in term] for term in blocks],
        weights,
        features=features,
        eps=norms[0].eps,
        running=running,
    )
    if moments is not None:
        update.add(norms, moments.mean, moments.variance)
    return sums


def _runs_by_itself(
    inputs: Sequence[Sequence[Tensor]],
    blocks: Sequence[Sequence[SeparableConv]],
    weights: Tensor,
) -> bool:
    """Whether modules are faster: nothing to sum, and too few numbers to pay for an affine map.

    One that is computed in C++ always pays.
    """
    first, pointwise = inputs[0][0], blocks[0][0].pointwise.weight
    alone = len(blocks) == len(weights) == 1 and len(blocks[0]) == len(inputs[0]) <= _FEW_EDGES
    if not alone or (not first.is_cuda and first.numel() > _FEW_NUMBERS):
        return False
    return not native.takes_sums([pointwise], weights[:, :1], [first], ())
