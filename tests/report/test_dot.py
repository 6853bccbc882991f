import re

import pytest

from darts_gdas.report.dot import dot_text
from darts_gdas.space import CellGenotype, Edge, Genotype, published_names


@pytest.mark.parametrize("name", published_names())
def test_every_edge_of_the_genotype_is_an_arrow(name: str):
    genotype = Genotype.load(name)
    arrows = re.findall(r's(\d)_(\d+) -> s\1_(\d+) \[label="(\w+)"\]', dot_text(genotype))
    expected = [
        (str(number), str(edge.source), str(cell.num_inputs + node), edge.op)
        for number, cell in enumerate(genotype.cells.values())
        for node, edges in enumerate(cell.nodes)
        for edge in edges
    ]
    assert arrows == expected


def test_a_small_cell_as_text():
    cell = CellGenotype(((Edge("skip_connect", 0),),), (1,), num_inputs=1)
    assert dot_text(Genotype({'a "b"': cell})).splitlines()[4:] == [
        "  subgraph cluster_0 {",
        '    label="a \\"b\\" cell";',
        '    s0_0 [label="c_k-1"];',
        '    s0_1 [label="node 0"];',
        '    out0 [label="c_k"];',
        '    s0_0 -> s0_1 [label="skip_connect"];',
        "    s0_1 -> out0 [style=dashed];",
        "  }",
        "}",
    ]
