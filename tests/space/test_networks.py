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
    """The least description of the sums, over all numberings of the operations: slow, complete."""
    edges = genotype.cells["normal"].nodes
    live = live_edges(genotype.cells["normal"])
    values, reads = [Counter({-1: 1})], []
    for node in range(3):
        value: Counter = Counter()
        for i, edge in enumerate(edges[node]):
            if (node, i) in live:
                source = values[edge.source]
                item = (edge.op, source)
                if edge.op == "skip_connect":
                    value.update(source)
                elif edge.op == "avg_pool_3x3" and item in reads:
                    value[reads.index(item)] += 1
                else:
                    reads.append(item)
                    value[len(reads) - 1] += 1
        values.append(value)

    def written(order: tuple[int, ...]) -> tuple:
        name = {-1: -1, **dict(enumerate(order))}
        shown = [
            (name[k], op, tuple(sorted((name[i], c) for i, c in read.items())))
            for k, (op, read) in enumerate(reads)
        ]
        return tuple(sorted(shown)), tuple(sorted((name[i], c) for i, c in values[3].items()))

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
