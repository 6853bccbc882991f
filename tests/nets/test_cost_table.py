"""Tables of costs against whole networks, counted by independent code."""

import random
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.nets import (
    NASBENCH201,
    OPERATIONS,
    CellMixture,
    CostTable,
    DerivedNet,
    Layout,
    Mixture,
    Quantity,
    Stem,
    build_cost_table,
    count_multiply_adds,
    count_parameters,
)
from darts_gdas.nets.cost_table import cell_sizes, is_largest, measure_latency
from darts_gdas.space import NONE, CellGenotype, CellSpace, Edge, Genotype, SearchSpace

CPU = torch.device("cpu")
DARTS = SearchSpace.named("darts")
NAS_BENCH_201 = SearchSpace.named("nasbench201")
LAYOUTS = {
    "darts": (DARTS, Layout(4, 5, 7), (17, 12)),
    "darts_imagenet": (DARTS, Layout(4, 5, 7, stem=Stem.imagenet), (75, 66)),
    "nasbench201": (NAS_BENCH_201, Layout(4, 8, 7, 1, skeleton=NASBENCH201), (13, 10)),
}
NETWORKS = pytest.mark.parametrize("name", LAYOUTS)
COUNTED = pytest.mark.parametrize(
    "quantity", [Quantity.parameters, Quantity.multiply_adds], ids=lambda q: q.name
)


def counted(genotype: Genotype, layout: Layout, size: tuple[int, int], quantity: Quantity) -> int:
    with torch.device("meta"):
        net = DerivedNet(genotype, layout)
    if quantity is Quantity.parameters:
        return count_parameters(net)
    return count_multiply_adds(net, (layout.in_channels, *size))


def one_hot(genotype: Genotype, space: SearchSpace) -> Mixture:
    """Weight 1 on the genotype's candidates, where every edge stays."""
    cells = {}
    for kind, cell in space.cells.items():
        ops = torch.zeros(len(cell.edges), cell.num_candidates)
        for node, edges in enumerate(genotype.cells[kind].nodes):
            for edge in edges:
                row = cell.edges.index((node, edge.source))
                ops[row, cell.candidates[row].index(edge.op)] = 1.0
        cells[kind] = CellMixture(ops)
    return Mixture(cells)


@NETWORKS
@COUNTED
def test_table_and_fixed_part_count_every_network_exactly(name: str, quantity: Quantity):
    space, layout, size = LAYOUTS[name]
    table = build_cost_table(space, layout, size, quantity, CPU)
    rng = random.Random(0)
    for _ in range(2):
        genotype = space.sample(rng)
        assert table.of(genotype) == counted(genotype, layout, size, quantity)


@COUNTED
def test_a_one_hot_mixture_that_keeps_every_edge_costs_what_its_network_costs(quantity: Quantity):
    space, layout, size = LAYOUTS["nasbench201"]
    table = build_cost_table(space, layout, size, quantity, CPU)
    rng = random.Random(1)
    for _ in range(4):
        genotype = space.sample(rng)
        expected = table.expected(one_hot(genotype, space))
        assert expected.item() == counted(genotype, layout, size, quantity)


def test_the_published_networks_have_their_published_parameters():
    """FACTS, section 2: NAS-Bench-201 with C=16, N=5, and DARTS with C=36, L=20."""
    layout = Layout(16, 17, 10, skeleton=NASBENCH201)
    table = build_cost_table(NAS_BENCH_201, layout, (32, 32), Quantity.parameters, CPU)
    ops = torch.zeros(6, 5)
    ops[:, 3] = 1.0  # nor_conv_3x3
    assert table.expected(Mixture({"normal": CellMixture(ops)})).item() == 1_531_546
    assert table.smallest == 73_306  # all none
    darts = build_cost_table(DARTS, Layout(36, 20, 10), (32, 32), Quantity.parameters, CPU)
    assert darts.of(Genotype.load("DARTS_V2")) == 3_349_342


@COUNTED
def test_the_expected_cost_is_the_mean_over_sampled_cells(quantity: Quantity):
    """Uniform weights are the law of `space.sample`: the mean of 300 cells, within 5 sigma."""
    space, layout, size = LAYOUTS["darts"]
    table = build_cost_table(space, layout, size, quantity, CPU)
    uniform = Mixture({kind: CellMixture(torch.full((14, 8), 1 / 8)) for kind in space.cells})
    rng = random.Random(2)
    sample = torch.tensor([table.of(space.sample(rng)) for _ in range(300)]).double()
    sigma = sample.std().item() / 300**0.5
    assert_close(table.expected(uniform).item(), sample.mean().item(), atol=5 * sigma, rtol=0)


def random_table(space: SearchSpace, seed: int = 0) -> CostTable:
    generator = torch.Generator().manual_seed(seed)
    tables = {
        kind: torch.rand(len(cell.edges), cell.num_candidates, generator=generator).double()
        for kind, cell in space.cells.items()
    }
    return CostTable(space, 3.0, tables)


def test_none_that_cannot_be_final_is_no_way_to_a_cheaper_network():
    """Scaling the other candidates of a row together, as `none` does, changes nothing."""
    table = random_table(DARTS)
    generator = torch.Generator().manual_seed(1)
    logits = {kind: torch.randn(14, 8, generator=generator).double() for kind in DARTS.cells}
    tempted = {kind: a.clone() for kind, a in logits.items()}
    for a in tempted.values():
        a[:, 0] += 3.0
    plain, drawn = (
        Mixture({kind: CellMixture(a.softmax(-1)) for kind, a in rows.items()})
        for rows in (logits, tempted)
    )
    assert_close(table.expected(plain), table.expected(drawn), rtol=1e-12, atol=0)
    leaves = [a.requires_grad_() for a in logits.values()]
    mixture = Mixture({kind: CellMixture(a.softmax(-1)) for kind, a in logits.items()})
    for gradient in torch.autograd.grad(table.expected(mixture), leaves):
        assert_close(gradient[:, 0], torch.zeros(14).double(), atol=1e-14, rtol=0)
        assert (gradient[:, 1:] != 0).all()


def test_the_extreme_costs_are_those_of_the_cheapest_and_the_dearest_cell():
    """By enumeration of every cell of a space with different candidates per edge."""
    rows = (("none", "skip_connect", "sep_conv_3x3"), ("skip_connect", "max_pool_3x3"),
            ("sep_conv_3x3",), ("none", "dil_conv_3x3"), ("avg_pool_3x3", "none"))  # fmt: skip
    space = SearchSpace({"normal": CellSpace(rows, num_nodes=2, keep=1)})
    table = random_table(space, seed=3)
    costs = []
    cell = space.cells["normal"]
    for first in cell.edges_into(0):
        for second in cell.edges_into(1):
            for a in cell.derivable(first):
                for b in cell.derivable(second):
                    nodes = tuple(
                        (Edge(op, cell.edges[edge][1]),) for op, edge in ((a, first), (b, second))
                    )
                    genotype = CellGenotype(nodes, cell.output, cell.num_inputs)
                    costs.append(table.of(Genotype({"normal": genotype})))
    assert table.smallest == pytest.approx(min(costs), rel=1e-14)
    assert table.largest == pytest.approx(max(costs), rel=1e-14)


def test_an_absent_candidate_costs_nothing_and_is_never_drawn():
    rows = (("skip_connect", "sep_conv_3x3"), ("sep_conv_3x3",))
    space = SearchSpace({"normal": CellSpace(rows, num_nodes=1)})
    table = build_cost_table(
        space, Layout(4, 3, 5, reductions=()), (8, 8), Quantity.parameters, CPU
    )
    assert table.get_buffer("table_normal")[1, 1] == 0
    weights = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    other = torch.tensor([[0.5, 0.5], [1.0, 7.0]])
    first, second = (table.expected(Mixture({"normal": CellMixture(w)})) for w in (weights, other))
    assert torch.equal(first, second)


def test_a_table_of_one_operation_is_its_count():
    """Two nodes of one reduction cell: stride 2 at the cell's inputs, 1 inside."""
    space = SearchSpace.darts(num_nodes=2, candidates=(NONE, "sep_conv_3x3"))
    layout = replace(Layout(4, 3, 5), reductions=(1,))
    table = build_cost_table(space, layout, (9, 8), Quantity.multiply_adds, CPU)
    reduce = table.get_buffer("table_reduce")
    op = OPERATIONS["sep_conv_3x3"].build(8, 2, True)
    assert reduce[0, 1] == count_multiply_adds(op, (8, 9, 8))
    inside = OPERATIONS["sep_conv_3x3"].build(8, 1, True)
    assert reduce[4, 1] == count_multiply_adds(inside, (8, 5, 4))
    assert (reduce[:, 0] == 0).all()


@NETWORKS
def test_sizes_are_those_of_the_states(name: str):
    space, layout, size = LAYOUTS[name]
    net = DerivedNet(space.sample(random.Random(0)), layout).eval()
    seen = []

    def note(_module, inputs):
        states = inputs[0]
        seen.append(tuple(states[-1].shape[2:]))

    for cell in net.cells:
        cell.register_forward_pre_hook(note)
    with torch.no_grad():
        net(torch.zeros(1, layout.in_channels, *size))
    assert cell_sizes(layout, size) == seen


def test_latencies_are_positive_and_measured_once_per_place(monkeypatch: pytest.MonkeyPatch):
    measured = []

    def measure(net, image_shape, device):
        measured.append((str(net)[:40], image_shape))
        return measure_latency(net, image_shape, device)

    monkeypatch.setattr("darts_gdas.nets.cost_table.measure_latency", measure)
    monkeypatch.setattr("darts_gdas.nets.costs.MOST", 3)
    space = SearchSpace.darts(num_nodes=2, candidates=(NONE, "skip_connect", "sep_conv_3x3"))
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    table = build_cost_table(space, Layout(2, 6, 5), (8, 8), Quantity.latency, CPU, tell)
    # Two candidates; normal cells at 3 widths, reductions at 2 (strides 2 and 1, the latter at a
    # width and resolution of normal cells); and the network without edges.
    assert len(measured) == 2 * (3 + 2) + 1
    assert told == [(i + 1, 10) for i in range(10)]
    for kind in space.cells:
        costs = table.get_buffer(f"table_{kind}")
        assert (costs[:, 0] == 0).all() and (costs[:, 1:] > 0).all()
    assert table.fixed > 0


def test_a_latency_is_a_median_in_milliseconds(monkeypatch: pytest.MonkeyPatch):
    times = iter(range(1000))
    clock = {"now": 0.0}

    def perf_counter() -> float:
        clock["now"] += 0.001 * next(times)
        return clock["now"]

    monkeypatch.setattr("time.perf_counter", perf_counter)
    # Pass i ends 0.001 (2 i + 1) s after its start; the median of passes 1..21 is pass 11.
    latency = measure_latency(torch.nn.Conv2d(1, 1, 1), (1, 2, 2), CPU)
    assert latency == pytest.approx(23.0)


def test_a_table_survives_a_checkpoint():
    table, other = random_table(DARTS, seed=0), random_table(DARTS, seed=1)
    other.load_state_dict(table.state_dict())
    genotype = DARTS.sample(random.Random(0))
    assert other.of(genotype) == table.of(genotype) and other.smallest == table.smallest


@pytest.mark.parametrize("name", sorted(LAYOUTS.keys() - {"darts_imagenet"}))  # darts in cells
def test_the_largest_cell_is_that_which_no_exchange_makes_larger(name: str):
    """Costs add up over edges, so one exchange after the other finds the largest network."""
    space, layout, size = LAYOUTS[name]
    layout = replace(layout, layers={"darts": 3, "nasbench201": 5}[name])  # the fewest

    def parameters(genotype: Genotype) -> int:
        return counted(genotype, layout, size, Quantity.parameters)

    found, smaller = space.sample(random.Random(0)), []
    for kind, cell in space.cells.items():
        for node in range(cell.num_nodes):
            for position in range(len(found.cells[kind].nodes[node])):
                options = []
                for op in cell.candidates[0]:
                    if op == NONE and name != "nasbench201":
                        continue
                    nodes = [list(edges) for edges in found.cells[kind].nodes]
                    nodes[node][position] = Edge(op, nodes[node][position].source)
                    changed = replace(found.cells[kind], nodes=tuple(map(tuple, nodes)))
                    options.append(Genotype({**found.cells, kind: changed}))
                sizes = [*map(parameters, options)]
                found = options[sizes.index(max(sizes))]
                smaller.append(options[sizes.index(min(sizes))])
    assert is_largest(found, space, layout)
    assert not any(is_largest(genotype, space, layout) for genotype in smaller)


def test_where_all_cells_are_of_one_size_none_is_the_largest():
    cell = CellSpace((("max_pool_3x3", "avg_pool_3x3"),) * 2, num_nodes=1)
    space = SearchSpace({kind: cell for kind in ("normal", "reduce")})
    layout = Layout(4, 3, 7)
    assert not is_largest(space.sample(random.Random(0)), space, layout)
