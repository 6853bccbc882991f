"""The network of a genotype as a graph for TensorBoard: operations, and what flows into them.

PyTorch's own graph comes from a trace, which the fused operations of our cells do not pass; and
its thousands of tensor operations would hide the cells.
"""

from collections.abc import Sequence

from tensorboard.compat.proto.graph_pb2 import GraphDef  # type: ignore[attr-defined]
from tensorboard.compat.proto.node_def_pb2 import NodeDef  # type: ignore[attr-defined]
from tensorboard.compat.proto.versions_pb2 import VersionDef  # type: ignore[attr-defined]

from darts_gdas.space import CellGenotype, Genotype


def derived_graph(genotype: Genotype, kinds: Sequence[str]) -> GraphDef:
    """Stem, cells and classifier; a cell is one box that opens to its nodes and operations.

    Args:
        genotype: The cells.
        kinds: The kind of each cell, in order; one that the genotype lacks is a fixed block.
    """
    nodes = [NodeDef(name="images", op="Placeholder"), _node("stem", "stem", "images")]
    states = ["stem", "stem"]
    for position, kind in enumerate(kinds):
        scope = f"cell_{position + 1:02d}_{kind}"
        if kind in genotype.cells:
            nodes += _cell(scope, genotype.cells[kind], states)
        else:
            nodes.append(_node(f"{scope}/output", "residual block", states[-1]))
        states = [states[-1], f"{scope}/output"]
    nodes.append(_node("pooling", "mean over positions", states[-1]))
    nodes.append(_node("classifier", "linear", "pooling"))
    return GraphDef(node=nodes, versions=VersionDef(producer=22))


def _cell(scope: str, cell: CellGenotype, entering: Sequence[str]) -> list[NodeDef]:
    nodes, names = [], []
    for i, state in enumerate(entering[-cell.num_inputs :]):
        names.append(f"{scope}/input_k-{cell.num_inputs - i}")
        nodes.append(_node(names[-1], "preprocessing", state))
    for i, edges in enumerate(cell.nodes):
        terms = []
        for place, edge in enumerate(edges):
            terms.append(f"{scope}/node_{i}/{edge.op}_{place}")
            nodes.append(_node(terms[-1], edge.op, names[edge.source]))
        names.append(f"{scope}/node_{i}/sum")
        nodes.append(_node(names[-1], "sum", *terms))
    outgoing = [names[state] for state in cell.output]
    return [*nodes, _node(f"{scope}/output", "concatenation", *outgoing)]


def _node(name: str, operation: str, *inputs: str) -> NodeDef:
    return NodeDef(name=name, op=operation, input=inputs)
