"""What a network costs, part by part: counted, and measured on a device.

Parts are the stem, every cell and the head; inside a cell, its edges. Counts of parts add up to the
network's; times of edges are of operations timed one by one, which leaves out how they are joined.
"""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from darts_gdas.nets.blocks import build_inputs
from darts_gdas.nets.cost import count_parameters
from darts_gdas.nets.cost_table import cell_sizes, halved
from darts_gdas.nets.derived import DerivedNet
from darts_gdas.nets.layout import CellPlan
from darts_gdas.nets.measure import Cost, kept_by, measure_module, repeated, wait
from darts_gdas.nets.operations import build_operation

Edge = tuple[str, int, int]
"""Kind, node, position among the node's edges."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A network's costs.

    Attributes:
        batches: Batch sizes that were timed.
        total: Of the network.
        stem: Of what precedes the cells.
        cells: Of each cell, in order.
        head: Of pooling and classifier, and what stands before them.
        edges: Of each edge, over all cells of its kind.
        inputs: Of what brings states into a cell, over all cells of a kind.
    """

    batches: tuple[int, ...]
    total: Cost
    stem: Cost
    cells: tuple[Cost, ...]
    head: Cost
    edges: dict[Edge, Cost]
    inputs: dict[str, Cost]


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
    counted = _count_parts(net, shape)
    timed = _time_parts(net.to(device).eval(), shape, device, batches)
    parts = [
        Cost(count_parameters(module), adds, kept, times)
        for module, (adds, kept), times in zip(_modules(net), counted, timed, strict=True)
    ]
    edges, inputs = _operations(net, image_size, device, batches, told)
    total = sum(parts[1:], parts[0])
    return Profile(tuple(batches), total, parts[0], tuple(parts[1:-1]), parts[-1], edges, inputs)


def _modules(net: DerivedNet) -> list[nn.Module]:
    return [net.stem, *net.cells, nn.ModuleList([net.tail, net.classifier])]


@dataclass
class _Boundaries:
    """Calls `mark` where a forward pass leaves the stem, and each cell."""

    mark: Callable[[], None]
    inside: bool = False

    def __call__(self, cell: nn.Module, states: object, factors: object, rectify: bool) -> Tensor:
        if not self.inside:
            self.mark()
            self.inside = True
        y = cell(states, factors, rectify=rectify)
        self.mark()
        return y

    def run(self, net: DerivedNet, images: Tensor) -> None:
        """One pass."""
        self.inside, net.run_cell = False, self
        net(images)
        self.mark()


def _count_parts(net: DerivedNet, shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Multiply-adds and kept bytes of each part, for one image, on shapes alone."""
    shapes_only = copy.deepcopy(net).to("meta")
    adds: list[int] = []
    counter = FlopCounterMode(display=False)
    passes = _Boundaries(lambda: adds.append(counter.get_total_flops() // 2))
    with counter, torch.no_grad():
        passes.run(shapes_only.eval(), torch.empty(1, *shape, device="meta"))
    kept: list[int] = []
    keeper, batch = kept_by(shapes_only), 2  # a norm cannot train on one image
    passes = _Boundaries(lambda: kept.append(keeper.num_bytes // batch))
    with keeper.watch():
        passes.run(shapes_only.train(), torch.empty(batch, *shape, device="meta"))
    return list(zip(_steps(adds), _steps(kept), strict=True))


def _steps(marks: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise((0, *marks))]


def _time_parts(
    net: DerivedNet, shape: tuple[int, int, int], device: torch.device, batches: Sequence[int]
) -> list[tuple[float, ...]]:
    """Milliseconds of each part for each batch size."""
    columns = []
    for batch in batches:
        rows = repeated(partial(_pass_times, net, torch.rand(batch, *shape, device=device)))
        columns.append([statistics.median(column) for column in zip(*rows, strict=True)])
    return list(zip(*columns, strict=True))


def _pass_times(net: DerivedNet, images: Tensor) -> list[float]:
    marks: list[float] = []

    def mark() -> None:
        wait(images.device)
        marks.append(1e3 * time.perf_counter())

    mark()
    _Boundaries(mark).run(net, images)
    return [after - before for before, after in pairwise(marks)]


def _operations(
    net: DerivedNet,
    image_size: tuple[int, int],
    device: torch.device,
    batches: Sequence[int],
    told: Callable[[int, int], None],
) -> tuple[dict[Edge, Cost], dict[str, Cost]]:
    """Every edge, and what brings states into the cells, each over all cells of a kind."""

    @cache
    def operation(
        name: str, before: int, channels: int, stride: int, pixels: tuple[int, int]
    ) -> Cost:
        module = build_operation(name, before, channels, stride, True)
        return measure_module(module, (before, *pixels), device, tuple(batches))

    @cache
    def entrance(plan: CellPlan, size: tuple[int, int]) -> Cost:
        total = Cost()
        for i, (module, channels) in enumerate(
            zip(build_inputs(plan, affine=True), plan.in_channels, strict=True)
        ):
            scale = 2 if plan.halves_first_input and i == 0 else 1
            shape = (channels, scale * size[0], scale * size[1])
            total += measure_module(module, shape, device, tuple(batches))
        return total

    edges: dict[Edge, Cost] = {}
    inputs: dict[str, Cost] = {}
    cells = net.genotype.cells
    sizes = cell_sizes(net.layout, image_size)
    for done, (plan, size) in enumerate(zip(net.plans, sizes, strict=True)):
        told(done, len(net.plans))
        if plan.kind not in net.layout.searched_kinds:
            continue
        cell = cells[plan.kind]
        inputs[plan.kind] = inputs.get(plan.kind, Cost()) + entrance(plan, size)
        inside = size if plan.stride == 1 else halved(size)
        for node, incoming in enumerate(cell.nodes):
            for i, edge in enumerate(incoming):
                pixels = size if edge.source < cell.num_inputs else inside
                before, stride = plan.edge_from(edge.source)
                cost = operation(edge.op, before, plan.channels, stride, pixels)
                key = (plan.kind, node, i)
                edges[key] = edges.get(key, Cost()) + cost
    return edges, inputs
