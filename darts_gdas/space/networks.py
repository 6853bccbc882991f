"""Which genotypes are one network: what a cell computes, apart from how it is written."""

import hashlib
from collections import Counter
from functools import cache
from itertools import product

from darts_gdas.space.cell import NONE, SKIP
from darts_gdas.space.genotype import CellGenotype, Edge, Genotype

BENCHMARK = (NONE, SKIP, "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
POOLINGS = ("max_pool_3x3", "avg_pool_3x3")

EdgeIndex = tuple[int, int]
"""(node, position among its edges)."""

Value = Counter[int | EdgeIndex]
"""A state as a sum: how often each input (int) and the result of each edge's operation is in it."""


def live_edges(cell: CellGenotype) -> frozenset[EdgeIndex]:
    """The edges that something reaches and that the output depends on.

    `none` passes nothing on, nor does an edge out of a state that nothing reaches.
    """
    reached = set(range(cell.num_inputs))
    passing = []
    for node, edges in enumerate(cell.nodes):
        found = [(node, i) for i, e in enumerate(edges) if e.op != NONE and e.source in reached]
        if found:
            reached.add(cell.num_inputs + node)
        passing += found
    needed, live = set(cell.output), set()
    for node, i in reversed(passing):
        if cell.num_inputs + node in needed:
            live.add((node, i))
            needed.add(cell.nodes[node][i].source)
    return frozenset(live)


def is_disconnected(genotype: Genotype) -> bool:
    """Whether nothing that enters some cell reaches its output, so the network is a constant."""
    return any(not live_edges(cell) for cell in genotype.cells.values())


def network_key(genotype: Genotype) -> str:
    """The same text for all genotypes that are one network.

    One network means: the same sums of the same operations. Edges that are `none`, that nothing
    reaches or that reach nothing are left out; a skip connection is the state that it passes on
    (but for the inputs of a kind that is not "normal", where it may halve the size with weights
    of its own); sums have no order, and neither have nodes: those that are concatenated change
    places with weights of the next cell. Poolings of one state are one, as they give the same;
    convolutions of one state are two, and one that is read twice is not two.

    Example:
        >>> a = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|"
        >>> b = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"
        >>> network_key(Genotype.load(a)) == network_key(Genotype.load(b))
        True
    """
    cells = genotype.cells
    return " ".join(f"{kind}:{_cell_key(cells[kind], kind)}" for kind in sorted(cells))


def representative(genotype: Genotype) -> Genotype:
    """One genotype for all that are the same network, to be measured in place of any of them.

    Of cells of NAS-Bench-201 it is the first string, `none` before the alphabet; of others it
    is the genotype itself with `none` on the edges that do not matter.
    """
    pruned = Genotype({kind: _pruned(cell) for kind, cell in genotype.cells.items()})
    try:
        genotype.to_arch_string()
    except ValueError:
        return pruned
    ((kind, cell),) = pruned.cells.items()
    spellings = _spellings(pruned.operations | set(BENCHMARK))
    first = spellings[network_key(Genotype({"normal": cell}))]
    return Genotype({kind: Genotype.from_arch_string(first).cells["normal"]})


@cache
def _spellings(operations: frozenset[str]) -> dict[str, str]:
    """The first string of every network of NAS-Bench-201's cells with these operations.

    `none` comes before all others, so that what does not matter is `none`. Takes seconds, once.
    """
    first: dict[str, str] = {}
    for ops in product(sorted(operations, key=lambda op: (op != NONE, op)), repeat=6):
        text = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*ops)
        genotype = Genotype.from_arch_string(text)
        (cell,) = genotype.cells.values()
        if len(live_edges(cell)) == sum(op != NONE for op in ops):  # else `none` stood there before
            first.setdefault(network_key(genotype), text)
    return first


def _pruned(cell: CellGenotype) -> CellGenotype:
    live = live_edges(cell)
    nodes = tuple(
        tuple(e if (n, i) in live else Edge(NONE, e.source) for i, e in enumerate(edges))
        for n, edges in enumerate(cell.nodes)
    )
    return CellGenotype(nodes, cell.output, cell.num_inputs)


def _cell_key(cell: CellGenotype, kind: str) -> str:
    """A hash of the cell's operations by what they read and what reads them.

    Colours are refined until they know the whole cell: every round tells an operation those of its
    neighbours, and no path is longer than the number of nodes.
    """
    live = live_edges(cell)
    values: list[Value] = [Counter({i: 1}) for i in range(cell.num_inputs)]
    reads: dict[EdgeIndex, Value] = {}
    for node, edges in enumerate(cell.nodes):
        value: Value = Counter()
        for i, edge in enumerate(edges):
            if (node, i) not in live:
                continue
            source = values[edge.source]
            if edge.op == SKIP and (kind == "normal" or edge.source >= cell.num_inputs):
                value.update(source)
                continue
            same = [
                other
                for other, read in reads.items()
                if edge.op in POOLINGS and _op(cell, other) == edge.op and read == source
            ]
            item = same[0] if same else (node, i)
            reads[item] = source
            value[item] += 1
        values.append(value)
    outputs = [values[state] for state in cell.output]
    colours: dict[int | EdgeIndex, str] = {i: f"input {i}" for i in range(cell.num_inputs)}
    colours |= {edge: _op(cell, edge) for edge in reads}

    def shown(value: Value) -> list[tuple[str, int]]:
        return sorted((colours[item], times) for item, times in value.items())

    for _ in range(len(cell.nodes) + 1):
        seen = dict(colours)
        for item in colours:
            read = shown(reads[item]) if item in reads else []  # type: ignore[index]
            readers = sorted((colours[e], v[item]) for e, v in reads.items() if item in v)
            leaves = sorted((shown(v), v[item]) for v in outputs if item in v)
            seen[item] = _digest(colours[item], read, readers, leaves)
        colours = seen
    return _digest(sorted(colours.values()), sorted(map(shown, outputs)))


def _op(cell: CellGenotype, edge: EdgeIndex) -> str:
    return cell.nodes[edge[0]][edge[1]].op


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
