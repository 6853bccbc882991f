from darts_gdas.report.tree import INPUTS, tree_lines
from darts_gdas.space import CellGenotype, Edge, Genotype

CELL = CellGenotype(((Edge("a", 0),), (Edge("b", 1), Edge("c", 2))), (2, 3))


def test_a_tree_shows_every_operation_below_its_node():
    lines = tree_lines(Genotype({"normal": CELL}))
    assert [line.text for line in lines] == [
        "normal cell",
        "|-- inputs: c_k-2, c_k-1",
        "|-- node 0",
        "|   `-- a(c_k-2)",
        "|-- node 1",
        "|   |-- b(c_k-1)",
        "|   `-- c(node 0)",
        "`-- output: node 0, node 1",
    ]
    assert [line.key for line in lines] == [
        ("normal",), ("normal", INPUTS), ("normal", 0), ("normal", 0, 0),
        ("normal", 1), ("normal", 1, 0), ("normal", 1, 1), (),
    ]  # fmt: skip


def test_all_kinds_are_there():
    keys = [line.key for line in tree_lines(Genotype.load("DARTS_V2"))]
    assert {("normal",), ("reduce",), ("reduce", 3, 1)} <= set(keys)
