"""Slow implementations that walk a definition, to compare the package with.

None of them calls the code it checks: they use loops over pixels, edges and subsets. Networks'
oracles reuse the leaf modules (convolutions and norms), not the cells' or edges' forward.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product

import torch
from torch import Tensor, nn

from darts_gdas.nets import DerivedNet, Mixture, SuperNet
from darts_gdas.space import CellGenotype, CellSpace, Edge


def wiring(
    num_nodes: int, num_inputs: int, predecessors: Sequence[Sequence[int]] | None = None
) -> list[tuple[int, int]]:
    """(node, source) pairs of a cell whose nodes read every earlier state, or those allowed."""
    pairs = []
    states = list(range(num_inputs))
    for node in range(num_nodes):
        for source in states:
            if predecessors is None or source in predecessors[node]:
                pairs.append((node, source))
        states.append(len(states))
    return pairs


def enumerate_cells(space: CellSpace) -> set[CellGenotype]:
    """Every cell that derivation can return, by listing subsets of edges and operations."""
    incoming: list[list[tuple[int, tuple[str, ...]]]] = [[] for _ in range(space.num_nodes)]
    pairs = wiring(space.num_nodes, space.num_inputs, space.predecessors)
    for (node, source), names in zip(pairs, space.candidates, strict=True):
        final = tuple(name for name in names if space.derives_none or name != "none")
        incoming[node].append((source, final))
    per_node = [list(_nodes(edges, space.keep)) for edges in incoming]
    states = tuple(space.num_inputs + node for node in range(space.num_nodes))
    output = states[-1:] if space.ends_in_last_node else states
    return {CellGenotype(nodes, output, space.num_inputs) for nodes in product(*per_node)}


def _nodes(
    edges: list[tuple[int, tuple[str, ...]]], keep: int | None
) -> Iterator[tuple[Edge, ...]]:
    for kept in combinations(edges, len(edges) if keep is None else keep):
        for names in product(*(names for _, names in kept)):
            yield tuple(Edge(op, source) for op, (source, _) in zip(names, kept, strict=True))


def all_arch_strings(candidates: Sequence[str]) -> list[str]:
    """Every NAS-Bench-201 string over these candidates."""
    template = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
    return [template.format(*names) for names in product(candidates, repeat=6)]


def pixel(image: Tensor, row: int, column: int) -> Tensor | None:
    """All channels of one pixel of [channels, height, width], None beyond the border."""
    _, height, width = image.shape
    inside = 0 <= row < height and 0 <= column < width
    return image[:, row, column] if inside else None


def window(image: Tensor, row: int, column: int, size: int, dilation: int = 1) -> list:
    """The pixels of a square window centred on (row, column), row by row; None beyond."""
    offsets = [dilation * (i - size // 2) for i in range(size)]
    return [pixel(image, row + i, column + j) for i in offsets for j in offsets]


def per_pixel(images: Tensor, stride: int, value_at) -> Tensor:
    """An operation from its value at a pixel: `value_at(image, row, column) -> [channels]`."""
    height, width = images.shape[2:]
    rows = [
        torch.stack(
            [
                torch.stack([value_at(image, i, j) for j in range(0, width, stride)], dim=1)
                for i in range(0, height, stride)
            ],
            dim=1,
        )
        for image in images
    ]
    return torch.stack(rows)


def batch_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise each channel over batch and pixels, as in training, without scale and shift."""
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / (variance + eps) ** 0.5


def supernet_logits(net: SuperNet, images: Tensor, mixture: Mixture) -> Tensor:
    """Eq. (2) of Liu et al. 2019 on every edge, `none` included, one term after the other.

    Where the mixture has `active` candidates, they alone run (Dong and Yang 2019). With partial
    channels every edge is eq. (2) of Xu et al. 2020, concatenated with what passes by and shuffled.
    """
    before, last = net.stem(images)
    for kind, cell in zip(net.layout.kinds, net.cells, strict=True):
        if kind == "residual":
            before, last = last, residual_reduction(cell, last)
            continue
        if kind in net.space.fixed:
            states = _entering(cell, before, last)
            before, last = last, _derived_cell(cell, net.space.fixed[kind], states)
            continue
        space, weights = net.space.cells[kind], mixture[kind]
        states = _entering(cell, before, last)
        pairs = wiring(space.num_nodes, space.num_inputs, space.predecessors)
        for node in range(space.num_nodes):
            total = torch.zeros((), dtype=images.dtype)
            for edge, (target, source) in enumerate(pairs):
                if target != node:
                    continue
                stride = 2 if kind == "reduce" and source < space.num_inputs else 1
                scale = 1.0 if weights.edges is None else weights.edges[edge]
                whole = states[source]
                x = whole[:, : whole.shape[1] // net.partial_channels]
                mixed = torch.zeros((), dtype=images.dtype)
                for i, name in enumerate(space.candidates[edge]):
                    if weights.active is not None and i != weights.active[edge]:
                        continue
                    y = (
                        0.0 * x[:, :, ::stride, ::stride]
                        if name == "none"
                        else cell.edges[edge].candidates[name](x)
                    )
                    mixed = mixed + weights.ops[edge, i] * y
                total = total + scale * beside_the_rest(mixed, whole, stride, net.partial_channels)
            states.append(total)
        outgoing = states[-1:] if space.ends_in_last_node else states[space.num_inputs :]
        before, last = last, torch.cat(outgoing, dim=1)
    return _classify(net, last)


def beside_the_rest(mixed: Tensor, whole: Tensor, stride: int, groups: int) -> Tensor:
    """An edge of PC-DARTS: the mixed channels, the others (2x2 maxima if strided), shuffled."""
    if groups == 1:
        return mixed
    rest = whole[:, mixed.shape[1] :]
    if stride == 2:

        def largest(image: Tensor, row: int, column: int) -> Tensor:
            return image[:, row : row + 2, column : column + 2].amax(dim=(1, 2))

        rest = per_pixel(rest, 2, largest)
    channels = [*mixed.unbind(1), *rest.unbind(1)]
    size = len(channels) // groups  # of a group; one channel of each group after the other
    return torch.stack([channels[g * size + i] for i in range(size) for g in range(groups)], 1)


def _entering(cell, before: Tensor, last: Tensor) -> list[Tensor]:
    """A cell's first states, from the outputs of the last two cells or of the last one."""
    entering = (before, last)[-len(cell.inputs) :]
    return [module(x) for module, x in zip(cell.inputs, entering, strict=True)]


def residual_reduction(block, x: Tensor) -> Tensor:
    """Figure 1 of Dong and Yang 2020: conv-conv beside the mean of 2x2 pixels and a 1x1 conv."""

    def mean(image: Tensor, row: int, column: int) -> Tensor:
        return image[:, row : row + 2, column : column + 2].mean(dim=(1, 2))

    return block.shortcut(per_pixel(x, 2, mean)) + block.second(block.first(x))


def derived_logits(
    net: DerivedNet, images: Tensor, path_factors: Iterable[Tensor] | None = None
) -> Tensor:
    """A derived network edge by edge, every path but identities times the next factor."""
    factors = None if path_factors is None else iter(path_factors)
    before, last = net.stem(images)
    for kind, cell in zip(net.layout.kinds, net.cells, strict=True):
        if kind == "residual":
            before, last = last, residual_reduction(cell, last)
            continue
        states = _entering(cell, before, last)
        before, last = last, _derived_cell(cell, net.genotype.cells[kind], states, factors)
    return _classify(net, last)


def _derived_cell(
    cell,
    genotype: CellGenotype,
    states: list[Tensor],
    factors: Iterator[Tensor] | None = None,
) -> Tensor:
    """Node by node, every path but identities times the next factor."""
    for operations, edges in zip(cell.nodes, genotype.nodes, strict=True):
        total = torch.zeros((), dtype=states[0].dtype)
        for operation, edge in zip(operations, edges, strict=True):
            path = operation(states[edge.source])
            if factors is not None and not isinstance(operation, nn.Identity):
                path = path * next(factors)
            total = total + path
        states = [*states, total]
    return torch.cat([states[i] for i in genotype.output], dim=1)


def _classify(net: SuperNet | DerivedNet, state: Tensor) -> Tensor:
    state = net.tail(state)
    features = state.sum(dim=(2, 3)) / (state.shape[2] * state.shape[3])
    return features @ net.classifier.weight.T + net.classifier.bias


def jacobian_rows(
    model: nn.Module, images: Tensor, parameters: Sequence[nn.Parameter]
) -> list[list[Tensor]]:
    """d f_a(x_n) / d theta as one flat vector, [samples][outputs], each sample a batch of one."""
    rows = []
    for n in range(len(images)):
        output = model(images[n : n + 1])[0]
        rows.append([_flat_gradient(value, parameters) for value in output])
    return rows


def batch_jacobian_rows(
    model: nn.Module, images: Tensor, parameters: Sequence[nn.Parameter]
) -> list[list[Tensor]]:
    """The same of the function of the whole batch, where samples may depend on each other."""
    output = model(images)
    return [[_flat_gradient(value, parameters) for value in row] for row in output]


def _flat_gradient(value: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    parts = []
    for parameter in parameters:
        (gradient,) = torch.autograd.grad(value, parameter, retain_graph=True, allow_unused=True)
        parts.append((torch.zeros_like(parameter) if gradient is None else gradient).flatten())
    return torch.cat(parts)


def tangent_kernel(rows: list[list[Tensor]], others: list[list[Tensor]]) -> Tensor:
    """Theta [samples, others, outputs, outputs]: the sum over weights of products, one by one."""
    return torch.stack(
        [
            torch.stack(
                [torch.stack([torch.stack([(u * v).sum() for v in y]) for u in x]) for y in others]
            )
            for x in rows
        ]
    ).detach()


def kernel_of_kind(full: Tensor, kind: str) -> Tensor:
    """What each kind keeps of the full kernel."""
    outputs = range(full.shape[2])
    diagonal = torch.stack([full[:, :, a, a] for a in outputs], dim=2)
    if kind == "sum":
        return sum((full[:, :, a, b] for a in outputs for b in outputs), torch.zeros(()))
    return {"full": full, "diagonal": diagonal, "trace": diagonal.sum(2)}[kind]


class ConstantNorm(nn.Module):
    """A batch norm whose mean and variance are numbers; shares the norm's weight and bias."""

    def __init__(self, norm: nn.Module, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.mean, self.variance, self.eps = mean, variance, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (x.dim() - 2)
        y = (x - self.mean.view(shape)) / (self.variance.view(shape) + self.eps) ** 0.5
        if self.weight is not None:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y


def with_constant_norms(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy whose norms use for ever what they see of a batch in training mode."""
    twin = copy.deepcopy(model).train()
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    norms = {
        name: module
        for name, module in twin.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    }
    for name, norm in norms.items():

        def note(norm: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
            (x,) = inputs
            axes = [axis for axis in range(x.dim()) if axis != 1]
            mean = x.mean(axes, keepdim=True)
            seen[name] = mean.flatten().detach(), ((x - mean) ** 2).mean(axes).detach()

        norm.register_forward_pre_hook(note)
    twin(images)
    for name, norm in norms.items():
        parent, _, attribute = name.rpartition(".")
        setattr(twin.get_submodule(parent), attribute, ConstantNorm(norm, *seen[name]))
    return twin
