"""A genotype in the language of Graphviz, for people who draw with other tools."""

from darts_gdas.report.summary import state_name
from darts_gdas.space import CellGenotype, Genotype


def dot_text(genotype: Genotype) -> str:
    """A directed graph with one cluster per kind of cell; operations label the edges."""
    lines = [
        "digraph genotype {",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="DejaVu Sans", fontsize=10];',
        '  edge [fontname="DejaVu Sans", fontsize=9];',
    ]
    for number, (kind, cell) in enumerate(genotype.cells.items()):
        lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(f'{kind} cell')};"]
        lines += [f"    {line}" for line in _cell_lines(number, cell)]
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def _cell_lines(number: int, cell: CellGenotype) -> list[str]:
    states = range(cell.num_inputs + len(cell.nodes))
    lines = [f"s{number}_{s} [label={_quoted(state_name(cell, s))}];" for s in states]
    lines.append(f'out{number} [label="c_k"];')
    for node, edges in enumerate(cell.nodes):
        target = cell.num_inputs + node
        for edge in edges:
            label = _quoted(edge.op)
            lines.append(f"s{number}_{edge.source} -> s{number}_{target} [label={label}];")
    lines += [f"s{number}_{state} -> out{number} [style=dashed];" for state in cell.output]
    return lines


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
