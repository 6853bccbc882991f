"""One cell of a genotype as the Python code of a class."""

import re
from dataclasses import dataclass

from darts_gdas.space import NONE, CellGenotype, Edge

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Written:
    """An operation in the written code.

    Attributes:
        call: What makes it; empty where the state is handed on as it is.
        ours: Where its weights lie inside the operation of `nets`.
        theirs: Where they lie inside what `call` makes.
    """

    call: str
    ours: str = ""
    theirs: str = ""


def written(operation: str, stride: int, before: str = "channels") -> Written | None:
    """How an operation is written; None where there is nothing to write.

    Args:
        operation: Its name.
        stride: Its stride.
        before: The expression of the channels that enter, where it can change their number.

    Raises:
        ValueError: If it is not one of ours.
    """
    if operation == NONE:
        return None
    more = ", stride=2" if stride == 2 else ""
    kernel = operation[-1]
    if re.fullmatch(r"sep_conv_(\d)x\1", operation):
        return Written(f"separable_convs(channels, {kernel}{more})")
    if re.fullmatch(r"dil_conv_(\d)x\1", operation):
        return Written(f"SeparableConv(channels, {kernel}{more}, dilation=2)", ours=".0")
    if re.fullmatch(r"mbconv\d_(\d)x\1", operation):
        return Written(f"MBConv({before}, channels, {kernel}, {operation[6]}{more})")
    if operation == "nor_conv_1x1" and stride == 2:  # pixels first, see `nets.operations`
        return Written("every_second_pixel(channels)", theirs=".1")
    others = {
        "skip_connect": "" if stride == 1 else "FactorizedReduce(channels, channels)",
        "max_pool_3x3": f"nn.MaxPool2d(3, stride={stride}, padding=1)",
        "avg_pool_3x3": f"nn.AvgPool2d(3, stride={stride}, padding=1, count_include_pad=False)",
        "nor_conv_1x1": "ReluConvNorm(channels, channels)",
        "nor_conv_3x3": f"ReluConvNorm(channels, channels, kernel=3{more})",
        "conv_7x1_1x7": f"conv_7x1_1x7(channels{more})",
        "group_conv_3x1_1x3": f"group_conv_3x1_1x3(channels{more})",
        "norm_max_pool_3x3": f"MaxPoolNorm(channels{more})",
        "noise": f"Noise({more.removeprefix(', ')})",
    }
    if operation not in others:
        raise ValueError(
            f"operation {operation!r} is not one of ours, so there is no code of it to write; "
            "export with --format torch or onnx"
        )
    return Written(others[operation])


def only_edge(cell: CellGenotype, stride: int) -> tuple[str, Written]:
    """A cell of one operation: what makes it of `before` and `channels`, and how it is written.

    Raises:
        ValueError: If it is another cell, or its operation is not one of ours.
    """
    edges = [edge for node in cell.nodes for edge in node]
    form = written(edges[0].op, stride, "before")
    if form is None or cell.num_inputs > 1 or len(edges) > 1:
        raise ValueError(
            "a block is written as its only operation; export this network with --format torch or "
            "onnx"
        )
    return form.call or "nn.Identity()", form


def state_names(cell: CellGenotype) -> list[str]:
    """The states of a cell as variables: what enters it, then its nodes."""
    entering = ["x"] if cell.num_inputs == 1 else ["before", "last"]
    return [*entering, *(f"node{node}" for node in range(len(cell.nodes)))]


def edge_names(cell: CellGenotype) -> list[list[str]]:
    """The edges into each node as attributes: `last_to_node0`, a second one `last_to_node0_2`."""
    states = state_names(cell)
    names: list[list[str]] = []
    for node, edges in enumerate(cell.nodes):
        into: list[str] = []
        for i, edge in enumerate(edges):
            before = sum(other.source == edge.source for other in edges[:i])
            name = f"{states[edge.source]}_to_node{node}"
            into.append(f"{name}_{before + 1}" if before else name)
        names.append(into)
    return names


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
        name: Of the class.
        cell: The cell.
        stride: Of the edges that leave its inputs.
        halves: Whether some cells must halve the first state, which is still twice as large.
    """
    states, names = state_names(cell), edge_names(cell)
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
    nodes = live_nodes(cell)
    for node in nodes:
        for edge, label in zip(cell.nodes[node], names[node], strict=True):
            form = written(edge.op, stride if edge.source < cell.num_inputs else 1)
            if form is not None and form.call:
                lines.append(f"        self.{label} = {form.call}")
    taken = ", ".join(f"{state}: Tensor" for state in states[: cell.num_inputs])
    lines += ["", f"    def forward(self, {taken}) -> Tensor:"]
    if two_states:
        lines.append("        before, last = self.enter_before(before), self.enter_last(last)")
    for node in nodes:
        lines += _sum_lines(f"node{node}", _terms(cell, cell.nodes[node], names[node], stride))
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


def _terms(
    cell: CellGenotype, edges: tuple[Edge, ...], labels: list[str], stride: int
) -> list[str]:
    """What a node sums; of a node that nothing reaches, zeros."""
    states = state_names(cell)
    terms = []
    for edge, label in zip(edges, labels, strict=True):
        form = written(edge.op, stride if edge.source < cell.num_inputs else 1)
        if form is not None:
            state = states[edge.source]
            terms.append(f"self.{label}({state})" if form.call else state)
    if terms:
        return terms
    pixels = "[:, :, ::2, ::2]" if stride == 2 else ""
    return [f"torch.zeros_like({states[cell.num_inputs - 1]}{pixels})"]


def _sum_lines(name: str, terms: list[str]) -> list[str]:
    line = f"        {name} = {' + '.join(terms)}"
    if len(line) <= WIDTH:
        return [line]
    rows = [f"            {'+ ' if i else ''}{term}" for i, term in enumerate(terms)]
    return [f"        {name} = (", *rows, "        )"]
