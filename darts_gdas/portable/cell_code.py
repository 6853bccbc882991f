"""One cell of a genotype as the Python code of a class."""

from typing import NamedTuple

from darts_gdas.portable.parts import expression
from darts_gdas.space import NONE, CellGenotype

WIDTH = 100


class WrittenEdge(NamedTuple):
    """An edge in the written code.

    Attributes:
        node: The node that it leads to.
        position: Its place among the node's edges, those included that are not written.
        op: The operation.
        stride: The operation's stride.
        state: The variable that it reads.
        label: The attribute that holds it: `last_to_node0`, a second one `last_to_node0_2`.
    """

    node: int
    position: int
    op: str
    stride: int
    state: str
    label: str

    @property
    def term(self) -> str:
        """What it adds to its node."""
        return f"self.{self.label}({self.state})" if self.made else self.state

    @property
    def made(self) -> str:
        """What makes the operation; empty for the state as it is."""
        return expression(self.op, self.stride)


def written_edges(cell: CellGenotype, stride: int) -> list[WrittenEdge]:
    """The edges that the output depends on.

    Args:
        cell: The cell.
        stride: The stride of the edges that leave its inputs.
    """
    states, written = _state_names(cell), []
    for node in live_nodes(cell):
        sources: list[int] = []
        for position, edge in enumerate(cell.nodes[node]):
            op, source = edge.op, edge.source
            sources.append(source)
            label = f"{states[source]}_to_node{node}"
            label += f"_{sources.count(source)}" if sources.count(source) > 1 else ""
            if op != NONE:
                own = stride if source < cell.num_inputs else 1
                written.append(WrittenEdge(node, position, op, own, states[source], label))
    return written


def _state_names(cell: CellGenotype) -> list[str]:
    """The states of a cell as variables: what enters it, then its nodes."""
    entering = ["x"] if cell.num_inputs == 1 else ["before", "last"]
    return [*entering, *(f"node{node}" for node in range(len(cell.nodes)))]


def live_nodes(cell: CellGenotype) -> list[int]:
    """The nodes that the output depends on: the others are not written."""
    live = set(cell.output)
    for state in range(cell.num_inputs + len(cell.nodes) - 1, cell.num_inputs - 1, -1):
        if state in live:
            live |= {edge.source for edge in cell.nodes[state - cell.num_inputs] if edge.op != NONE}
    return [node for node in range(len(cell.nodes)) if cell.num_inputs + node in live]


def cell_class(name: str, cell: CellGenotype, *, stride: int, halves: bool) -> str:
    """The code of the class.

    Args:
        name: The class's name.
        cell: The cell.
        stride: The stride of the edges that leave the cell's inputs.
        halves: Whether some cells must halve the first state, which is still twice as large.
    """
    states, edges = _state_names(cell), written_edges(cell, stride)
    two_states = cell.num_inputs == 2
    arguments = "before: int, last: int, channels: int" if two_states else "channels: int"
    arguments += ", halve: bool = False" if halves else ""
    lines = [
        f"class {name}(nn.Module):",
        f'    """{_about(cell, stride)}"""',
        "",
        f"    def __init__(self, {arguments}) -> None:",
        "        super().__init__()",
        *(_enter_lines(halves) if two_states else []),
    ]
    lines += [f"        self.{edge.label} = {edge.made}" for edge in edges if edge.made]
    taken = ", ".join(f"{state}: Tensor" for state in states[: cell.num_inputs])
    lines += ["", f"    def forward(self, {taken}) -> Tensor:"]
    if two_states:
        lines.append("        before, last = self.enter_before(before), self.enter_last(last)")
    pixels = "[:, :, ::2, ::2]" if stride == 2 else ""
    zeros = f"torch.zeros_like({states[cell.num_inputs - 1]}{pixels})"  # where nothing arrives
    for node in live_nodes(cell):
        terms = [edge.term for edge in edges if edge.node == node]
        lines += _sum_lines(f"node{node}", terms or [zeros])
    leaving = [states[state] for state in cell.output]
    result = leaving[0] if len(leaving) == 1 else f"torch.cat([{', '.join(leaving)}], dim=1)"
    return "\n".join([*lines, f"        return {result}"])


def _about(cell: CellGenotype, stride: int) -> str:
    count = len(cell.output)
    channels = f"{count} * channels" if count > 1 else "channels"
    return f"{'Halves' if stride == 2 else 'Keeps'} height and width; {channels} leave it."


def _enter_lines(halves: bool) -> list[str]:
    if not halves:
        return [
            "        self.enter_before = ReluConvNorm(before, channels)",
            "        self.enter_last = ReluConvNorm(last, channels)",
        ]
    return [
        "        enter = FactorizedReduce if halve else ReluConvNorm",
        "        self.enter_before = enter(before, channels)",
        "        self.enter_last = ReluConvNorm(last, channels)",
    ]


def _sum_lines(name: str, terms: list[str]) -> list[str]:
    line = f"        {name} = {' + '.join(terms)}"
    if len(line) <= WIDTH:
        return [line]
    rows = [f"            {'+ ' if i else ''}{term}" for i, term in enumerate(terms)]
    return [f"        {name} = (", *rows, "        )"]
