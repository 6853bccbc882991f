"""One network, however it is written: against all orders of a small cell's operations."""

import random
from collections import Counter
from itertools import permutations

import pytest

from darts_gdas.space import CellGenotype, Edge, Genotype, SearchSpace
from darts_gdas.space.networks import is_disconnected, live_edges, network_key, representative
from tests.oracles import all_arch_strings

BENCH = SearchSpace.named("nasbench201")


def cell(*ops: str) -> Genotype:
    return Genotype.load("|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*ops))


def normal_form(genotype: Genotype) -> tuple:
    """`cell_form` of the normal cell."""
    return cell_form(genotype.cells["normal"])


def cell_form(cell: CellGenotype, kind: str = "normal") -> tuple:
    """The least description of the sums, over all numberings of the operations: slow, complete."""
    live, inputs = live_edges(cell), range(cell.num_inputs)
    values, reads = [Counter({-1 - i: 1}) for i in inputs], []
    for node, edges in enumerate(cell.nodes):
        value: Counter = Counter()
        for i, edge in enumerate(edges):
            if (node, i) in live:
                source = values[edge.source]
                item = (edge.op, source)
                is_plain = kind == "normal" or edge.source not in inputs
                if edge.op == "skip_connect" and is_plain:
                    value.update(source)
                elif "pool" in edge.op and item in reads:
                    value[reads.index(item)] += 1
                else:
                    reads.append(item)
                    value[len(reads) - 1] += 1
        values.append(value)

    def shown(value: Counter, name: dict[int, int]) -> tuple:
        return tuple(sorted((name[i], c) for i, c in value.items()))

    def written(order: tuple[int, ...]) -> tuple:
        name = {**{-1 - i: -1 - i for i in inputs}, **dict(enumerate(order))}
        found = [(name[k], op, shown(read, name)) for k, (op, read) in enumerate(reads)]
        return tuple(sorted(found)), tuple(sorted(shown(values[s], name) for s in cell.output))

    return min(written(order) for order in permutations(range(len(reads))))


def test_the_key_tells_apart_what_the_slow_normal_form_tells_apart():
    """Every eighth cell of three operations, 300 of five: keys and forms are one to one."""
    rng = random.Random(0)
    some = [Genotype({"normal": BENCH.sample(rng).cells["normal"]}) for _ in range(300)]
    some += [
        Genotype.load(text)
        for text in all_arch_strings(BENCH.cells["normal"].candidates[0])
        if "1x1" not in text and "none" not in text
    ][::8]
    pairs = {(network_key(g), normal_form(g)) for g in some}
    assert len(pairs) == len({key for key, _ in pairs}) == len({form for _, form in pairs})


@pytest.mark.slow
def test_the_strings_of_nas_bench_201_are_so_many_networks():
    """The benchmark counts 6,466: it writes nested sums as they come, and sees no sharing."""
    names = BENCH.cells["normal"].candidates[0]
    assert len({network_key(Genotype.load(text)) for text in all_arch_strings(names)}) == 5260


def test_dead_edges_skips_and_order_do_not_matter_but_sharing_does():
    conv, skip, none = "nor_conv_3x3", "skip_connect", "none"
    assert network_key(cell(conv, none, none, none, skip, none)) == network_key(
        cell(skip, none, conv, none, none, skip)
    )
    assert network_key(cell(conv, conv, none, none, skip, none)) == network_key(
        cell(conv, none, none, none, skip, none)
    )
    twice = cell(conv, none, skip, none, skip, skip)  # one convolution, added twice
    two = cell(conv, conv, none, none, skip, skip)
    assert network_key(twice) != network_key(two)


def test_a_disconnected_cell_is_told():
    assert is_disconnected(cell(*["none"] * 6))
    assert is_disconnected(cell("nor_conv_3x3", "none", "none", "none", "none", "none"))
    assert not is_disconnected(cell("none", "none", "none", "skip_connect", "none", "none"))


def test_spellings_of_one_network_have_one_representative():
    conv, skip, none = "nor_conv_3x3", "skip_connect", "none"
    one = cell(conv, none, none, none, skip, none)
    other = cell(skip, none, conv, none, none, skip)
    assert representative(one) == representative(other)
    assert network_key(representative(one)) == network_key(one)
    dead = cell(conv, "nor_conv_1x1", none, none, skip, none)  # with an operation that one has not
    assert representative(dead) == representative(one)
    assert representative(one).operations == {conv, none}


def test_nodes_that_are_concatenated_have_no_order():
    a, b = Edge("sep_conv_3x3", 0), Edge("dil_conv_5x5", 1)
    x, y = CellGenotype(((a,), (b,)), (2, 3)), CellGenotype(((b,), (a,)), (2, 3))
    assert network_key(Genotype({"normal": x})) == network_key(Genotype({"normal": y}))
    strided, plain = Edge("skip_connect", 0), Edge("skip_connect", 1)
    keys = {
        network_key(Genotype({kind: CellGenotype(((strided,), (plain, Edge("none", 2))), (2, 3))}))
        for kind in ("normal", "reduce")
    }
    assert len(keys) == 2


def small(num_nodes: int, *candidates: str) -> SearchSpace:
    """Cells with so few operations that all their numberings can be listed."""
    return SearchSpace.darts(num_nodes=num_nodes, candidates=candidates)


def respelt(cell: CellGenotype, rng: random.Random) -> CellGenotype:
    """The same nodes in another order in which each comes after what it reads; edges, too."""
    order: list[int] = []
    while len(order) < len(cell.nodes):
        built = {*range(cell.num_inputs), *(cell.num_inputs + node for node in order)}
        left = [n for n in range(len(cell.nodes)) if n not in order]
        order.append(rng.choice([n for n in left if {e.source for e in cell.nodes[n]} <= built]))
    name = {cell.num_inputs + node: cell.num_inputs + i for i, node in enumerate(order)}
    nodes = [[Edge(e.op, name.get(e.source, e.source)) for e in cell.nodes[n]] for n in order]
    for edges in nodes:
        rng.shuffle(edges)
    output = [name[state] for state in cell.output]
    rng.shuffle(output)
    return CellGenotype(tuple(map(tuple, nodes)), tuple(output), cell.num_inputs)


@pytest.mark.parametrize("name", ["darts", "s2", "s4"])
def test_the_order_of_nodes_and_edges_does_not_change_the_representative(name: str):
    rng, space = random.Random(1), SearchSpace.named(name)
    for genotype in [space.sample(rng) for _ in range(60)]:
        other = Genotype({kind: respelt(cell, rng) for kind, cell in genotype.cells.items()})
        assert representative(other) == representative(genotype)
        assert network_key(other) == network_key(genotype)


@pytest.mark.parametrize("kind", ["normal", "reduce"])
def test_the_representative_is_the_network_and_the_only_one(kind: str):
    """Slow normal forms tell networks apart: forms and representatives are one to one.

    Many skips and poolings, so that sums are nested and equal in many ways; `none` in some.
    """
    rng, skip, pool, conv = random.Random(2), "skip_connect", "max_pool_3x3", "sep_conv_3x3"
    spaces = [small(2, skip, pool, conv), small(3, skip, pool, conv)]
    pairs = set()
    for space in spaces * 120:
        cell = space.sample(rng).cells[kind]
        cut = [
            tuple(Edge("none", e.source) if rng.random() < 0.1 else e for e in edges)
            for edges in cell.nodes
        ]
        cell = CellGenotype(tuple(cut), cell.output, cell.num_inputs)
        ((_, found),) = representative(Genotype({kind: cell})).cells.items()
        form = cell_form(cell, kind)
        assert cell_form(found, kind) == form
        assert network_key(Genotype({kind: found})) == network_key(Genotype({kind: cell}))
        assert representative(Genotype({kind: found})).cells[kind] == found
        pairs.add((form, found))
    assert len(pairs) == len({form for form, _ in pairs}) == len({found for _, found in pairs})
    assert len(pairs) > 100


def test_nodes_that_are_tied_together_further_on_are_put_in_order_together():
    """Each of the last three reads one of three equal nodes and one of others: pairs must match."""
    conv, dil = "sep_conv_3x3", "dil_conv_3x3"
    first = [(Edge(conv, 0),)] * 3 + [(Edge(dil, 1),)] * 3
    last = [(Edge(conv, 2 + i), Edge(conv, 5 + i)) for i in range(3)]
    cell = CellGenotype((*first, *last), (8, 9, 10))
    cells = {respelt(cell, random.Random(i)) for i in range(20)}
    found = {representative(Genotype({"normal": cell})) for cell in cells}
    assert len(cells) == 20 and len(found) == 1


def test_a_space_with_one_spelling_of_each_cell_keeps_it():
    blocks = [["mbconv3_3x3", "skip_connect"], ["mbconv6_3x3", "skip_connect"]] * 2
    chain = SearchSpace.chain(blocks, reductions=[1], widths=[1, 2, 2, 2])
    for space in (chain, small(1, "skip_connect", "max_pool_3x3", "sep_conv_3x3")):
        for genotype in [space.sample(random.Random(i)) for i in range(20)]:
            assert representative(genotype).cells == genotype.cells


def test_a_node_that_nothing_reaches_is_no_other_network():
    """The same sums with a node more have one key, one representative."""
    conv, none = Edge("sep_conv_3x3", 0), Edge("none", 1)
    short = CellGenotype(((conv,), (conv, none)), (2, 3))
    long = CellGenotype(((none,), (conv,), (conv, Edge("skip_connect", 2))), (3, 4))
    one, other = (Genotype({"normal": cell}) for cell in (short, long))
    assert representative(one) == representative(other)
    assert network_key(one) == network_key(other)
    empty = Genotype({"normal": CellGenotype(((none,), (conv,)), (2,))})
    assert representative(empty).cells["normal"].nodes == ((Edge("none", 0),),)


def test_keys_are_those_that_seeds_were_derived_from():
    """Networks of NAS-Bench-201, and of a chain, keep their scores: their keys are recorded."""
    conv, skip, none = "nor_conv_3x3", "skip_connect", "none"
    block = Genotype({"block0": CellGenotype(((Edge("mbconv3_3x3", 0),),), (1,), 1)})
    found = [network_key(g) for g in (cell(conv, none, conv, skip, skip, conv), block)]
    assert found == ["normal:7eb20ea5ea33d7794070a2bc", "block0:fe8372c907c72fbf6559f424"]
    spelt = representative(cell(none, conv, none, conv, conv, conv))
    assert spelt == cell(none, conv, none, conv, none, conv)
