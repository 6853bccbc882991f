from darts_gdas.report.graph import derived_graph
from darts_gdas.space import CellGenotype, Edge, Genotype

NORMAL = CellGenotype(
    ((Edge("sep_conv_3x3", 0), Edge("skip_connect", 1)), (Edge("max_pool_3x3", 2),)), (2, 3)
)


def inputs(genotype: Genotype, *kinds: str) -> dict[str, list[str]]:
    return {node.name: list(node.input) for node in derived_graph(genotype, kinds).node}


def test_a_network_of_two_cells_is_wired_as_in_the_paper():
    first, second = "cell_01_normal", "cell_02_normal"
    found = inputs(Genotype({"normal": NORMAL}), "normal", "normal")
    assert found["images"] == [] and found["stem"] == ["images"]
    assert found[f"{first}/input_k-2"] == found[f"{first}/input_k-1"] == ["stem"]
    assert found[f"{second}/input_k-2"] == ["stem"]
    assert found[f"{second}/input_k-1"] == [f"{first}/output"]
    assert found[f"{second}/node_0/sep_conv_3x3_0"] == [f"{second}/input_k-2"]
    assert found[f"{second}/node_0/skip_connect_1"] == [f"{second}/input_k-1"]
    assert found[f"{second}/node_1/max_pool_3x3_0"] == [f"{second}/node_0/sum"]
    assert found[f"{second}/output"] == [f"{second}/node_0/sum", f"{second}/node_1/sum"]
    assert found["classifier"] == ["pooling"] and found["pooling"] == [f"{second}/output"]


def test_every_input_is_a_node_that_came_before():
    for name, kinds in (("AmoebaNet", ("normal", "reduce", "normal")), ("GDAS_V1", ("reduce",))):
        seen: set[str] = set()
        for node, sources in inputs(Genotype.load(name), *kinds).items():
            assert set(sources) <= seen
            seen.add(node)


def test_a_fixed_block_stands_between_cells_that_read_one_state():
    cell = CellGenotype(((Edge("nor_conv_3x3", 0),),), (1,), num_inputs=1)
    found = inputs(Genotype({"normal": cell}), "normal", "residual", "normal")
    assert found["cell_02_residual/output"] == ["cell_01_normal/output"]
    assert found["cell_03_normal/input_k-1"] == ["cell_02_residual/output"]
