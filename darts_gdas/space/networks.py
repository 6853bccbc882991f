"""Which genotypes are one network: what a cell computes, apart from how it is written."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product

from darts_gdas.space.cell import NONE, SKIP
from darts_gdas.space.genotype import CellGenotype, Edge, Genotype

BENCHMARK = (NONE, SKIP, "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
BENCHMARK_ROUNDS = 4
"""How often the colours of its cells are refined: three nodes, and once more."""

POOLINGS = ("max_pool_3x3", "avg_pool_3x3")

EdgeIndex = tuple[int, int]
"""(node, position among its edges)."""

Item = int | EdgeIndex
"""An input of a cell (int), or the result of an edge's operation."""

Value = Counter[Item]
"""A state as a sum: how often each item is in it."""

State = frozenset[tuple[Item, int]]
"""The same as something that can be looked up."""


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
    rounds = BENCHMARK_ROUNDS if _is_of_benchmark(genotype) else None
    cells = genotype.cells
    return " ".join(f"{kind}:{_cell_key(cells[kind], kind, rounds)}" for kind in sorted(cells))


def representative(genotype: Genotype) -> Genotype:
    """One genotype for all that are the same network, to be measured in place of any of them.

    Of cells of NAS-Bench-201 the first string, `none` before the alphabet. Of others it is built
    from the sums: states in an order that follows from what they are, edges by what they read. A
    result that several states contain has a node of its own, so a cell may have more nodes and
    other numbers of edges than any of its space, but the same operations.
    """
    if not _is_of_benchmark(genotype):
        return Genotype({kind: _rebuilt(cell, kind) for kind, cell in genotype.cells.items()})
    ((kind, cell),) = genotype.cells.items()
    pruned = Genotype({"normal": _pruned(cell)})
    ops = [edge.op for edges in pruned.cells["normal"].nodes for edge in edges]
    first = _spellings(pruned.operations | set(BENCHMARK), _kept(ops))[network_key(pruned)]
    return Genotype({kind: first.cells["normal"]})


def _is_of_benchmark(genotype: Genotype) -> bool:
    try:
        genotype.to_arch_string()
    except ValueError:
        return False
    return True


def _kept(ops: Iterable[str]) -> tuple[str, ...]:
    """Those of the operations that every spelling of a network has equally often."""
    return tuple(sorted(op for op in ops if op not in (NONE, SKIP, *POOLINGS)))


@cache
def _strings(operations: frozenset[str]) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """Cells of NAS-Bench-201 as operations, `none` before all others, by those that are kept."""
    found: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for ops in product(sorted(operations, key=lambda op: (op != NONE, op)), repeat=6):
        found.setdefault(_kept(ops), []).append(ops)
    return found


@cache
def _spellings(operations: frozenset[str], kept: tuple[str, ...]) -> dict[str, Genotype]:
    """The first string of every network with so many of each kept operation; all take seconds."""
    first: dict[str, Genotype] = {}
    for ops in _strings(operations)[kept]:
        genotype = Genotype.from_arch_string("|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*ops))
        (cell,) = genotype.cells.values()
        if len(live_edges(cell)) == sum(op != NONE for op in ops):  # else `none` stood there before
            first.setdefault(network_key(genotype), genotype)
    return first


def _pruned(cell: CellGenotype) -> CellGenotype:
    live = live_edges(cell)
    nodes = tuple(
        tuple(e if (n, i) in live else Edge(NONE, e.source) for i, e in enumerate(edges))
        for n, edges in enumerate(cell.nodes)
    )
    return CellGenotype(nodes, cell.output, cell.num_inputs)


@dataclass(frozen=True)
class _Sums:
    """A cell as what it computes, without its nodes.

    Attributes:
        ops: The operation of each edge that counts.
        reads: What it is applied to.
        outputs: The states that leave the cell.
        num_inputs: How many states enter it.
    """

    ops: Mapping[Item, str]
    reads: Mapping[Item, Value]
    outputs: list[Value]
    num_inputs: int

    @property
    def plain(self) -> dict[Item, str]:
        """A colour for each item: what it is, whatever is around it."""
        return {**{i: f"input {i}" for i in range(self.num_inputs)}, **self.ops}

    def refined(self, colours: Mapping[Item, str]) -> dict[Item, str]:
        """Colours that tell each item those of its neighbours."""
        seen = {}
        for item in colours:
            read = _shown(self.reads[item], colours) if item in self.reads else []
            readers = sorted((colours[e], v[item]) for e, v in self.reads.items() if item in v)
            leaves = sorted((_shown(v, colours), v[item]) for v in self.outputs if item in v)
            seen[item] = _digest(colours[item], read, readers, leaves)
        return seen

    def settled(self, colours: Mapping[Item, str]) -> Mapping[Item, str]:
        """Colours refined until that tells no more items apart."""
        while len({*(finer := self.refined(colours)).values()}) > len({*colours.values()}):
            colours = finer
        return finer


def _shown(value: Value, colours: Mapping[Item, str]) -> list[tuple[str, int]]:
    return sorted((colours[item], times) for item, times in value.items())


def _sums(cell: CellGenotype, kind: str) -> _Sums:
    live = live_edges(cell)
    values: list[Value] = [Counter({i: 1}) for i in range(cell.num_inputs)]
    ops: dict[Item, str] = {}
    reads: dict[Item, Value] = {}
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
                if edge.op in POOLINGS and ops[other] == edge.op and read == source
            ]
            item = same[0] if same else (node, i)
            ops[item], reads[item] = edge.op, source
            value[item] += 1
        values.append(value)
    return _Sums(ops, reads, [values[state] for state in cell.output], cell.num_inputs)


def _cell_key(cell: CellGenotype, kind: str, rounds: int | None) -> str:
    """A hash of the cell's operations by what they read and what reads them.

    Every round tells an operation its neighbours' colours; no path is longer than there are nodes.
    """
    sums = _sums(cell, kind)
    colours = sums.plain
    for _ in range(rounds or _num_nodes(sums) + 1):
        colours = sums.refined(colours)
    return _digest(sorted(colours.values()), sorted(_shown(v, colours) for v in sums.outputs))


def _rebuilt(cell: CellGenotype, kind: str) -> CellGenotype:
    """The same cell for all that have its sums.

    One node after the other, always the one whose edges come first of those that can be built. Of
    equal ones the colours decide, which know of all that stands already; where those are equal too,
    the nodes can change places, and either gives the same cell.
    """
    sums = _sums(cell, kind)
    waiting = _states(sums)
    found: dict[State, int] = {_alone(i): i for i in range(sums.num_inputs)}
    alone = {state for state in waiting if len(state) == 1}
    nodes: list[list[Edge]] = []
    while waiting:
        ready = {s: edges for s in waiting if (edges := _edges(s, sums, found, alone)) is not None}
        least = min(map(_in_order, ready.values()))
        first = [state for state, edges in ready.items() if _in_order(edges) == least]
        if len(first) > 1:
            colours = sums.settled(_marked(sums, found))
            first.sort(key=lambda state: _shown(Counter(dict(state)), colours))
        waiting.remove(first[0])
        found[first[0]] = sums.num_inputs + len(nodes)
        nodes.append(ready[first[0]])
    output: list[int] = []
    for state in sorted(found[_state(value)] for value in sums.outputs):
        if state < sums.num_inputs or state in output:  # leaves in a node of its own
            nodes.append([Edge(SKIP, state)])
            state = sums.num_inputs + len(nodes) - 1
        output.append(state)
    return CellGenotype(tuple(map(tuple, nodes)), tuple(sorted(output)), sums.num_inputs)


def _marked(sums: _Sums, found: Mapping[State, int]) -> dict[Item, str]:
    """A colour for each item, which also tells where it is of what stands already."""
    places = {i: [(n, dict(s)[i]) for s, n in found.items() if i in dict(s)] for i in sums.plain}
    return {item: _digest(colour, places[item]) for item, colour in sums.plain.items()}


def _num_nodes(sums: _Sums) -> int:
    """How many nodes the rebuilt cell has."""
    inputs = {_alone(i) for i in range(sums.num_inputs)}
    leaving = {_state(value) for value in sums.outputs} - inputs
    return len(_states(sums)) + len(sums.outputs) - len(leaving)


def _states(sums: _Sums) -> set[State]:
    """What needs a node: all that is read or leaves, and results that are in several of those."""
    inputs = {_alone(i) for i in range(sums.num_inputs)}
    states = {_state(value) for value in (*sums.reads.values(), *sums.outputs)} - inputs
    uses: Value = Counter()
    for state in states:
        uses.update(dict(state))
    return states | {_alone(e) for e in sums.reads if uses[e] > 1}


def _edges(
    state: State, sums: _Sums, found: Mapping[State, int], alone: Collection[State]
) -> list[Edge] | None:
    """The edges into a node, by what they read; None where that is not built yet."""
    edges: list[Edge] = []
    for item, times in state:
        own = _alone(item)
        is_result = item in sums.ops and (own == state or own not in alone)
        source = _state(sums.reads[item]) if is_result else own
        if source not in found:
            return None
        edges += [Edge(sums.ops[item] if is_result else SKIP, found[source])] * times
    return sorted(edges, key=lambda edge: (edge.source, edge.op)) or [Edge(NONE, 0)]


def _in_order(edges: list[Edge]) -> list[tuple[int, str]]:
    return [(edge.source, edge.op) for edge in edges]


def _state(value: Value) -> State:
    return frozenset(value.items())


def _alone(item: Item) -> State:
    return frozenset({(item, 1)})


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
