"""What a network costs, part by part: counted, and measured on a device.

Parts are the stem, every cell and the head; inside a cell, its edges. Counts of parts add up to the
network's; times of edges are of operations timed one by one, which leaves out how they are joined.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from darts_gdas.nets.blocks import build_inputs
from darts_gdas.nets.cost_table import cell_sizes, edge_size
from darts_gdas.nets.costs import PartCost, measure, whole
from darts_gdas.nets.derived import DerivedNet
from darts_gdas.nets.layout import CellPlan
from darts_gdas.nets.operations import OPERATIONS

Edge = tuple[str, int, int]
"""Kind, node, position among the node's edges."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A network's costs.

    Attributes:
        batches: Batch sizes that were timed.
        total: The whole network.
        stem: What precedes the cells.
        cells: Each cell, in order.
        head: Pooling and classifier, and what stands before them.
        edges: Each edge, summed over all cells of its kind.
        inputs: What brings states into a cell, summed over all cells of a kind.
    """

    batches: tuple[int, ...]
    total: PartCost
    stem: PartCost
    cells: tuple[PartCost, ...]
    head: PartCost
    edges: dict[Edge, PartCost]
    inputs: dict[str, PartCost]


def profile(
    net: DerivedNet,
    image_size: tuple[int, int],
    device: torch.device,
    *,
    batches: Sequence[int] = (1, 64),
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Profile:
    """Count and measure every part of a network.

    Args:
        net: The network; left as it was. An auxiliary head does not count.
        image_size: Height and width.
        device: Where it is timed.
        batches: Batch sizes to time.
        told: Called with the number of cells whose operations are measured, and that of all.
    """
    net = copy.deepcopy(net)
    net.auxiliary = None
    shape = (net.layout.in_channels, *image_size)
    modules = [net.stem, *net.cells, nn.ModuleList([net.tail, net.classifier])]
    parts = measure(net, modules, _marked, shape, device, batches)
    edges, inputs = _operations(net, image_size, device, batches, told)
    total = sum(parts[1:], parts[0])
    return Profile(tuple(batches), total, parts[0], tuple(parts[1:-1]), parts[-1], edges, inputs)


def _marked(net: DerivedNet, images: Tensor, mark: Callable[[], None]) -> None:
    """A pass that marks the ends of the stem, of each cell and of the head."""

    def run_cell(cell: nn.Module, states: object, factors: object, rectify: bool) -> Tensor:
        if cell is net.cells[0]:
            mark()
        y = cell(states, factors, rectify=rectify)
        mark()
        return y

    net.run_cell = run_cell
    net(images)
    mark()


def _operations(
    net: DerivedNet,
    image_size: tuple[int, int],
    device: torch.device,
    batches: Sequence[int],
    told: Callable[[int, int], None],
) -> tuple[dict[Edge, PartCost], dict[str, PartCost]]:
    """Every edge, and what brings states into the cells, each over all cells of a kind."""

    def by_itself(module: nn.Module, channels: int, height: int, width: int) -> PartCost:
        shape = (channels, height, width)
        (cost,) = measure(module, [module], whole, shape, device, batches, is_inside=True)
        return cost

    @cache
    def operation(name: str, place: tuple[int, int, int], pixels: tuple[int, int]) -> PartCost:
        return by_itself(OPERATIONS[name].between(*place, affine=True), place[0], *pixels)

    @cache
    def entrance(plan: CellPlan, size: tuple[int, int]) -> PartCost:
        total = PartCost()
        for i, (module, channels) in enumerate(
            zip(build_inputs(plan, affine=True), plan.in_channels, strict=True)
        ):
            scale = 2 if plan.halves_first_input and i == 0 else 1
            total += by_itself(module, channels, scale * size[0], scale * size[1])
        return total

    edges: dict[Edge, PartCost] = {}
    inputs: dict[str, PartCost] = {}
    cells = net.genotype.cells
    sizes = cell_sizes(net.layout, image_size)
    for done, (plan, size) in enumerate(zip(net.plans, sizes, strict=True)):
        told(done, len(net.plans))
        if plan.kind not in net.layout.searched_kinds:
            continue
        cell = cells[plan.kind]
        inputs[plan.kind] = inputs.get(plan.kind, PartCost()) + entrance(plan, size)
        for node, incoming in enumerate(cell.nodes):
            for i, edge in enumerate(incoming):
                pixels = edge_size(plan, size, edge.source)
                cost = operation(edge.op, plan.edge_from(edge.source), pixels)
                key = (plan.kind, node, i)
                edges[key] = edges.get(key, PartCost()) + cost
    return edges, inputs
