"""What each candidate of each edge adds to the cost of a derived network."""

from collections.abc import Callable
from enum import Enum
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.nets.costs import count_multiply_adds, count_parameters, time_parts, whole
from darts_gdas.nets.derived import DerivedNet
from darts_gdas.nets.layout import CellPlan, Layout
from darts_gdas.nets.mixture import Mixture
from darts_gdas.nets.operations import OPERATIONS
from darts_gdas.space import NONE, CellGenotype, CellSpace, Edge, Genotype, SearchSpace


class Quantity(Enum):
    """What is counted: numbers learnt, multiply-adds per image, milliseconds per image."""

    parameters = "parameters"
    multiply_adds = "multiply_adds"
    latency = "latency"


class CostTable(nn.Module):
    """The cost of derived networks, as a linear function of their cells.

    The cost of a network is a fixed part (stem, what brings states into a cell, cells that are not
    searched, classifier) plus, for every edge that stays, an entry of the table. Parameters and
    multiply-adds are exact; latency is the sum of operations timed one by one, which leaves out how
    they are joined.

    Args:
        space: The cells.
        fixed: What the network costs when every edge that is searched is `none`.
        tables: By kind, [edges, candidates]: what a candidate costs in all cells of that kind.
    """

    fixed: Tensor

    def __init__(self, space: SearchSpace, fixed: float, tables: dict[str, Tensor]) -> None:
        super().__init__()
        self.space = space
        self.register_buffer("fixed", torch.tensor(fixed, dtype=torch.float64))
        for kind, cell in space.cells.items():
            self.register_buffer(f"table_{kind}", tables[kind].double())
            self.register_buffer(f"derivable_{kind}", _derivable(cell), persistent=False)
            self.register_buffer(f"share_{kind}", _share(cell), persistent=False)

    def expected(self, mixture: Mixture) -> Float[Tensor, ""]:
        """The mean cost of a network whose cells are drawn by the mixture, differentiable.

        A candidate is drawn with its share of the weight of those that can be final: where `none`
        cannot, its weight is no way to a cheaper network. Of a node's edges each is as likely to
        stay as another; where every edge stays, this is exact.
        """
        total = self.fixed
        for kind in self.space.cells:
            weights = mixture[kind].ops.double() * self.get_buffer(f"derivable_{kind}")
            shares = self.get_buffer(f"share_{kind}")[:, None] * _rows_to_one(weights)
            total = total + (shares * self.get_buffer(f"table_{kind}")).sum()
        return total

    def of(self, genotype: Genotype) -> float:
        """The cost of one network."""
        total = float(self.fixed)
        for kind, cell in self.space.cells.items():
            table = self.rows(kind)
            for node, edges in enumerate(genotype.cells[kind].nodes):
                for edge in edges:
                    row = cell.edges.index((node, edge.source))
                    total += table[row][cell.candidates[row].index(edge.op)]
        return total

    def rows(self, kind: str) -> list[list[float]]:
        """What each candidate of each edge costs, in all cells of a kind."""
        return self.get_buffer(f"table_{kind}").tolist()

    @property
    def smallest(self) -> float:
        """The cost of the cheapest network."""
        return float(self.fixed) + self._extreme(1)

    @property
    def largest(self) -> float:
        """The cost of the dearest network."""
        return float(self.fixed) - self._extreme(-1)

    def _extreme(self, sign: int) -> float:
        """The least sum of signed costs that the edges of a network can have."""
        total = 0.0
        for kind, cell in self.space.cells.items():
            allowed = self.get_buffer(f"derivable_{kind}")
            table = (sign * self.get_buffer(f"table_{kind}")).masked_fill(~allowed, torch.inf)
            least = table.amin(-1).tolist()
            for node in range(cell.num_nodes):
                edges = sorted(least[edge] for edge in cell.edges_into(node))
                total += sum(edges[: cell.keep])
        return total


def build_cost_table(
    space: SearchSpace,
    layout: Layout,
    image_size: tuple[int, int],
    quantity: Quantity,
    device: torch.device,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> CostTable:
    """Count or measure every operation once at each stride, width and resolution it stands at.

    Args:
        space: The cells.
        layout: The network that derived cells stand in.
        image_size: Height and width.
        quantity: What to count.
        device: Where a latency is measured; a count needs none.
        told: Called with the number of operations that are measured, and that of all; counts are
            there at once.
    """
    cost = partial(_cost, quantity=quantity, device=device)
    seen: set[tuple] = set()  # operations at their places: first all of them, then those left
    total = 0

    @cache
    def count(name: str, place: tuple[int, int, int], pixels: tuple[int, int]) -> float:
        if name == NONE:
            return 0.0  # an edge that is not there
        with torch.device("meta"):
            operation = OPERATIONS[name].between(*place, affine=True)
        found = cost(operation, (place[0], *pixels))
        seen.discard((name, place, pixels))
        if quantity is Quantity.latency:
            told(total - len(seen), total)
        return found

    def look(name: str, place: tuple[int, int, int], pixels: tuple[int, int]) -> float:
        if name != NONE:
            seen.add((name, place, pixels))
        return 0.0

    shapes = {kind: (len(cell.edges), cell.num_candidates) for kind, cell in space.cells.items()}
    tables = {kind: torch.zeros(shape).double() for kind, shape in shapes.items()}
    sizes = cell_sizes(layout, image_size)
    for each in (look, count):
        total = len(seen)
        for plan, size in zip(layout.plan(space.num_outputs), sizes, strict=True):
            if plan.kind in space.cells:
                _add_cell(tables[plan.kind], space.cells[plan.kind], plan, size, each)
    fixed = cost(_without_edges(space, layout), (layout.in_channels, *image_size))
    return CostTable(space, fixed, tables).to(device)


def is_largest(genotype: Genotype, space: SearchSpace, layout: Layout) -> bool:
    """Whether no network of the space has more parameters than this one, while others have fewer.

    Of a space with an operation that cannot be built without data this is not known: False.
    """
    try:
        table = build_cost_table(space, layout, (1, 1), Quantity.parameters, torch.device("cpu"))
    except RuntimeError:
        return False
    return table.smallest < table.largest <= table.of(genotype)


def cell_sizes(layout: Layout, image_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width of the states that enter each cell, rounded up where they are halved."""
    size, sizes = image_size, []
    for _ in range(layout.stem.stride.bit_length() - 1):
        size = halved(size)
    for plan in layout.plan({}):
        sizes.append(size)
        size = size if plan.stride == 1 else halved(size)
    return sizes


def halved(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width behind a stride of 2, rounded up."""
    return -(-size[0] // 2), -(-size[1] // 2)


def edge_size(plan: CellPlan, size: tuple[int, int], source: int) -> tuple[int, int]:
    """Height and width of a state of a cell, which an edge reads.

    Args:
        plan: The cell.
        size: Height and width of the states that enter it.
        source: The state.
    """
    return size if source < len(plan.in_channels) or plan.stride == 1 else halved(size)


def _add_cell(
    table: Tensor,
    space: CellSpace,
    plan: CellPlan,
    size: tuple[int, int],
    count: Callable[..., float],
) -> None:
    for edge, (_, source) in enumerate(space.edges):
        place = plan.edge_from(source), edge_size(plan, size, source)
        for i, name in enumerate(space.candidates[edge]):
            table[edge, i] += count(name, *place)


def _cost(
    net: nn.Module, image_shape: tuple[int, int, int], quantity: Quantity, device: torch.device
) -> float:
    if quantity is Quantity.parameters:
        return float(count_parameters(net))
    if quantity is Quantity.multiply_adds:
        return float(count_multiply_adds(net, image_shape))
    return measure_latency(net.to_empty(device=device), image_shape, device)


def measure_latency(
    net: nn.Module, image_shape: tuple[int, int, int], device: torch.device
) -> float:
    """Milliseconds of a forward pass for one image in evaluation, whatever the weights were."""
    for tensor in (*net.parameters(), *net.buffers()):
        torch.nn.init.ones_(tensor)  # no denormal numbers, which take longer
    (latency,) = time_parts(net.eval(), whole, torch.ones(1, *image_shape, device=device))
    return latency


def _without_edges(space: SearchSpace, layout: Layout) -> DerivedNet:
    """A network whose edges are all `none`, but for those of fixed cells."""
    cells = {}
    for kind, cell in space.cells.items():
        into = (cell.edges_into(node)[: cell.keep] for node in range(cell.num_nodes))
        nodes = tuple(tuple(Edge(NONE, cell.edges[edge][1]) for edge in edges) for edges in into)
        cells[kind] = CellGenotype(nodes, cell.output, cell.num_inputs)
    with torch.device("meta"):
        return DerivedNet(space.genotype(cells), layout)


def _derivable(cell: CellSpace) -> Tensor:
    """Which candidates of each edge can be final, [edges, candidates]."""
    return torch.tensor(
        [
            [name in cell.derivable(edge) for name in names]
            + [False] * (cell.num_candidates - len(names))
            for edge, names in enumerate(cell.candidates)
        ]
    )


def _share(cell: CellSpace) -> Tensor:
    """The share of cells in which each edge stays, [edges]."""
    shares = []
    for node in range(cell.num_nodes):
        incoming = len(cell.edges_into(node))
        shares += [(cell.keep or incoming) / incoming] * incoming
    return torch.tensor(shares, dtype=torch.float64)


def _rows_to_one(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
