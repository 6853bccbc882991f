"""A genotype as a tree of text: kinds, their nodes, the operations into each."""

from typing import NamedTuple

from darts_gdas.report.summary import state_name
from darts_gdas.space import Genotype

INPUTS = "inputs"
Key = tuple[str | int, ...]


class Line(NamedTuple):
    """One line of the tree.

    Attributes:
        text: What it shows.
        key: What it is about: (kind,), (kind, "inputs"), (kind, node) or (kind, node, position
            among the node's edges); empty for the output.
    """

    text: str
    key: Key


def tree_lines(genotype: Genotype) -> list[Line]:
    """The tree, in ASCII."""
    lines = []
    for kind, cell in genotype.cells.items():
        inputs = ", ".join(state_name(cell, state) for state in range(cell.num_inputs))
        lines += [Line(f"{kind} cell", (kind,)), Line(f"|-- inputs: {inputs}", (kind, INPUTS))]
        for node, edges in enumerate(cell.nodes):
            lines.append(Line(f"|-- node {node}", (kind, node)))
            for i, edge in enumerate(edges):
                branch = "`--" if i + 1 == len(edges) else "|--"
                operation = f"{edge.op}({state_name(cell, edge.source)})"
                lines.append(Line(f"|   {branch} {operation}", (kind, node, i)))
        output = ", ".join(state_name(cell, state) for state in cell.output)
        lines.append(Line(f"`-- output: {output}", ()))
    return lines
