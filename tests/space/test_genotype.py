"""Genotypes: values, JSON in and out, published cells, and every error message."""

import copy
import itertools
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_gdas.space import CellGenotype, Edge, Genotype, SearchSpace, published_names
from tests.oracles import enumerate_cells

SHORT = {
    "s3": "sep_conv_3x3",
    "s5": "sep_conv_5x5",
    "s7": "sep_conv_7x7",
    "d3": "dil_conv_3x3",
    "d5": "dil_conv_5x5",
    "mp": "max_pool_3x3",
    "ap": "avg_pool_3x3",
    "sk": "skip_connect",
    "c7": "conv_7x1_1x7",
    "g3": "group_conv_3x1_1x3",
    "np": "norm_max_pool_3x3",
}

# name: (normal, reduce), each "edges | edges | ... -> output states"
TABLE = {
    "DARTS_V1": (
        "s3 1,s3 0 | sk 0,s3 1 | sk 0,s3 1 | s3 0,sk 2 -> 2 3 4 5",
        "mp 0,mp 1 | sk 2,mp 0 | mp 0,sk 2 | sk 2,ap 0 -> 2 3 4 5",
    ),
    "DARTS_V2": (
        "s3 0,s3 1 | s3 0,s3 1 | s3 1,sk 0 | sk 0,d3 2 -> 2 3 4 5",
        "mp 0,mp 1 | sk 2,mp 1 | mp 0,sk 2 | sk 2,mp 1 -> 2 3 4 5",
    ),
    "GDAS_V1": (
        "sk 0,sk 1 | sk 0,s5 2 | s3 3,sk 0 | s5 4,s3 3 -> 2 3 4 5",
        "s5 0,s3 1 | s5 2,s5 1 | d5 2,s3 1 | s5 0,s5 1 -> 2 3 4 5",
    ),
    "GDAS_FRC": (
        "sk 0,sk 1 | sk 0,s3 2 | sk 0,s3 2 | sk 0,s3 2 -> 2 3 4 5",
        "g3 0 | g3 1 | sk 2,sk 3 | np 4 | np 1 -> 2 3 5 6",
    ),
    "PC_DARTS_cifar": (
        "s3 1,sk 0 | s3 0,d3 1 | s5 0,s3 1 | ap 0,d3 1 -> 2 3 4 5",
        "s5 1,mp 0 | s5 1,s5 2 | s3 0,s3 3 | s3 1,s3 2 -> 2 3 4 5",
    ),
    "PC_DARTS_image": (
        "sk 1,s3 0 | s3 0,sk 1 | s3 1,s3 3 | s3 1,d5 4 -> 2 3 4 5",
        "s3 0,sk 1 | d5 2,mp 1 | s3 2,s3 1 | s5 0,s3 3 -> 2 3 4 5",
    ),
    "PDARTS": (
        "sk 0,d3 1 | sk 0,s3 1 | s3 1,s3 3 | s3 0,d5 4 -> 2 3 4 5",
        "ap 0,s5 1 | s3 0,d5 2 | mp 0,d3 1 | d3 1,d5 3 -> 2 3 4 5",
    ),
    "DrNAS_cifar10": (
        "s3 0,s5 1 | s3 1,s3 2 | sk 0,s3 1 | s3 2,d5 3 -> 2 3 4 5",
        "mp 0,s5 1 | d5 2,s5 1 | s5 1,d5 3 | sk 4,s5 1 -> 2 3 4 5",
    ),
    "TENAS_cifar10": (
        "d3 0,s5 1 | s3 0,s3 2 | sk 0,d5 1 | s3 1,s5 3 -> 2 3 4 5",
        "s5 0,s5 1 | s5 1,s5 2 | s3 1,s3 3 | s5 2,s3 4 -> 2 3 4 5",
    ),
    "NASNet": (
        "s5 1,s3 0 | s5 0,s3 0 | ap 1,sk 0 | ap 0,ap 0 | s3 1,sk 1 -> 2 3 4 5 6",
        "s5 1,s7 0 | mp 1,s7 0 | ap 1,s5 0 | sk 3,ap 2 | s3 2,mp 1 -> 4 5 6",
    ),
    "AmoebaNet": (
        "ap 0,mp 1 | s3 0,s5 2 | s3 0,ap 3 | s3 1,sk 1 | sk 0,ap 1 -> 4 5 6",
        "ap 0,s3 1 | mp 0,s7 2 | s7 0,ap 1 | mp 0,mp 1 | c7 0,s3 5 -> 3 4 6",
    ),
}


def parse(row: str) -> CellGenotype:
    nodes, output = row.split("->")
    edges = [[edge.split() for edge in node.split(",")] for node in nodes.split("|")]
    return CellGenotype(
        tuple(tuple(Edge(SHORT[op], int(source)) for op, source in node) for node in edges),
        tuple(int(state) for state in output.split()),
    )


@st.composite
def cells(draw: st.DrawFn) -> CellGenotype:
    """Any valid cell: any number of inputs, sources repeated, some states not in the output."""
    num_inputs = draw(st.integers(1, 3))
    num_nodes = draw(st.integers(1, 4))
    nodes = tuple(
        tuple(
            draw(
                st.lists(
                    st.builds(Edge, st.text(max_size=4), st.integers(0, num_inputs + node - 1)),
                    min_size=1,
                    max_size=4,
                )
            )
        )
        for node in range(num_nodes)
    )
    states = st.integers(num_inputs, num_inputs + num_nodes - 1)
    output = draw(st.lists(states, min_size=1, unique=True))
    return CellGenotype(nodes, tuple(output), num_inputs)


def genotypes(kinds: st.SearchStrategy[str]) -> st.SearchStrategy[Genotype]:
    return st.builds(Genotype, st.dictionaries(kinds, cells(), min_size=1, max_size=3))


identifiers = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)

SMALL = {"inputs": 2, "nodes": [[["skip_connect", 0]], [["skip_connect", 2]]], "output": [2, 3]}


def small(**changes: object) -> dict[str, object]:
    """A valid cell as plain data, with changes."""
    return {**SMALL, **changes}


@pytest.mark.parametrize("name", TABLE)
def test_published_genotypes_are_the_papers(name: str):
    normal, reduce = TABLE[name]
    assert Genotype.load(name) == Genotype({"normal": parse(normal), "reduce": parse(reduce)})


def test_the_table_covers_every_published_name():
    assert published_names() == tuple(sorted(TABLE))


@pytest.mark.parametrize("name", TABLE)
def test_published_genotypes_survive_json(name: str):
    genotype = Genotype.load(name)
    assert Genotype.from_json(genotype.to_json()) == genotype


@given(cells())
@settings(deadline=None)
def test_cells_survive_plain_data(cell: CellGenotype):
    assert CellGenotype.from_dict(json.loads(json.dumps(cell.to_dict()))) == cell


@given(genotypes(identifiers))
@settings(deadline=None)
def test_genotypes_survive_json(genotype: Genotype):
    again = Genotype.from_json(genotype.to_json())
    assert again == genotype
    assert list(again.cells) == list(genotype.cells)


@given(genotypes(st.text(max_size=3)))
@settings(deadline=None)
def test_kinds_of_any_name_survive_json(genotype: Genotype):
    assert Genotype.from_json(genotype.to_json()) == genotype


@given(genotypes(identifiers))
@settings(deadline=None)
def test_to_json_is_plain_data_with_one_line_per_node(genotype: Genotype):
    text = genotype.to_json()
    plain = {"cells": {kind: cell.to_dict() for kind, cell in genotype.cells.items()}}
    assert json.loads(text) == plain
    nodes = sum(len(cell.nodes) for cell in genotype.cells.values())
    assert len(text.splitlines()) == 2 + 2 * len(genotype.cells) + nodes


@pytest.mark.parametrize(
    "clone",
    [
        copy.copy,
        copy.deepcopy,
        lambda value: pickle.loads(pickle.dumps(value)),
        lambda value: Genotype(dict(reversed(list(value.cells.items())))),
    ],
    ids=["copy", "deepcopy", "pickle", "other order of kinds"],
)
@given(genotype=genotypes(identifiers))
@settings(deadline=None)
def test_copies_are_equal_and_hash_alike(clone, genotype: Genotype):
    assert clone(genotype) == genotype
    assert hash(clone(genotype)) == hash(genotype)


@given(cells(), cells())
@settings(deadline=None)
def test_cells_are_equal_exactly_when_their_data_are(first: CellGenotype, second: CellGenotype):
    assert (first == second) == (first.to_dict() == second.to_dict())


def test_published_genotypes_are_pairwise_different():
    assert len({Genotype.load(name) for name in TABLE}) == len(TABLE)


def test_values_cannot_be_written():
    genotype = Genotype.load("DARTS_V2")
    with pytest.raises(AttributeError):
        genotype.cells = {}  # type: ignore[misc]
    with pytest.raises(AttributeError):
        genotype.cells["normal"].num_inputs = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        genotype.cells["normal"] = genotype.cells["reduce"]  # type: ignore[index]


def test_operations_are_those_of_all_cells():
    used = {"max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3"}
    assert Genotype.load("DARTS_V2").operations == used


def test_a_node_may_read_one_state_twice():
    cell = CellGenotype.from_dict(small(nodes=[[["a", 0], ["a", 0]]], output=[2]))
    assert cell.nodes == ((Edge("a", 0), Edge("a", 0)),)


# Loading


@pytest.mark.parametrize("kind", [str, Path])
def test_loads_a_published_name(kind):
    assert Genotype.load(kind("GDAS_V1")).cells["normal"].nodes[1][1] == Edge("sep_conv_5x5", 2)


@pytest.mark.parametrize("kind", [str, Path])
def test_loads_a_file_under_any_name(kind, tmp_path: Path):
    genotype = Genotype({"normal": CellGenotype.from_dict(SMALL)})
    file = tmp_path / "best of all.txt"
    file.write_text(genotype.to_json(), encoding="utf-8")
    assert Genotype.load(kind(file)) == genotype


def test_a_file_may_be_called_as_a_second_download_with_a_mark(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    genotype = Genotype({"normal": CellGenotype.from_dict(SMALL)})
    Path("Genotype(1).json").write_text(genotype.to_json(), encoding="utf-8-sig")
    assert Genotype.load("Genotype(1).json") == genotype
    with pytest.raises(ValueError, match="genotype is empty; name a published one"):
        Genotype.load(" ")


@pytest.mark.parametrize("kind", [str, Path])
def test_loads_a_run_folder(kind, tmp_path: Path):
    genotype = Genotype({"normal": CellGenotype.from_dict(SMALL)})
    (tmp_path / "genotype.json").write_text(genotype.to_json(), encoding="utf-8")
    assert Genotype.load(kind(tmp_path)) == genotype


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'darts_v2' is neither a published name") as error:
        Genotype.load("darts_v2")
    assert all(name in str(error.value) for name in published_names())


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"'.*absent\.json' is neither a published name .* nor a file"
    ):
        Genotype.load(tmp_path / "absent.json")


def test_a_text_that_is_no_cell_is_an_error_too():
    with pytest.raises(ValueError, match="File name too long"):
        Genotype.load(300 * "NASNet")


def test_a_folder_without_genotype_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=tmp_path.name):
        Genotype.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"genotype '.*g\.json': not JSON: "),
        (b"\xff\xfe", r"genotype '.*g\.json' is not a text file"),
        (b"[]", r"genotype '.*g\.json': a genotype has exactly the keys \['cells'\], got \[\]"),
    ],
    ids=["not JSON", "not UTF-8", "not a genotype"],
)
def test_an_invalid_file_is_named(content: bytes, message: str, tmp_path: Path):
    file = tmp_path / "g.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Genotype.load(file)


# Error messages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": 0}, "at least one input and one node, got 0 inputs and 2 nodes"),
        ({"nodes": []}, "at least one input and one node, got 2 inputs and 0 nodes"),
        ({"nodes": [[["a", 0]], []]}, "node 1 has no edge; every node reads at least one state"),
        ({"nodes": [[["a", 2]]]}, r"node 0 reads state 2, but only states 0\.\.1 exist before it"),
        ({"nodes": [[["a", -1]]]}, "node 0 reads state -1, but only states"),
        ({"nodes": [[["a", 0]], [["a", 0], ["a", 3]]]}, r"node 1 reads state 3, .* 0\.\.2 exist"),
        ({"output": []}, r"output must name distinct states, got \[\]"),
        ({"output": [2, 3, 2]}, r"output must name distinct states, got \[2, 3, 2\]"),
        ({"output": [1, 2]}, r"only name the nodes' states 2\.\.3, got \[1, 2\]"),
        ({"output": [4]}, r"only name the nodes' states 2\.\.3, got \[4\]"),
        ({"nodes": {"0": []}}, r"nodes must be a list, got \{'0': \[\]\}"),
        ({"nodes": ["skip_connect"]}, "node 0 must be a list, got 'skip_connect'"),
        ({"nodes": [[["a", 0]], [["a"]]]}, r"node 1: an edge is \[operation, source state\], got"),
        ({"nodes": [[[0, "a"]]]}, r"node 0: an edge is \[operation, source state\], got"),
        ({"nodes": [["a0"]]}, r"node 0: an edge is \[operation, source state\], got 'a0'"),
        ({"nodes": [[["a", "0"]]]}, "node 0 must hold whole numbers, got '0'"),
        ({"nodes": [[["a", True]]]}, "node 0 must hold whole numbers, got True"),
        ({"output": 2}, "output must be a list, got 2"),
        ({"output": [2.0]}, "output must hold whole numbers, got 2.0"),
        ({"inputs": None}, "inputs must hold whole numbers, got None"),
        ({"concat": [2]}, r"a cell has exactly the keys \['inputs', 'nodes', 'output'\], got"),
    ],
)
def test_a_malformed_cell_says_what_and_where(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        CellGenotype.from_dict(small(**changes))
    text = json.dumps({"cells": {"normal": SMALL, "reduce": small(**changes)}})
    with pytest.raises(ValueError, match=f"^cell 'reduce': .*{message}"):
        Genotype.from_json(text)


@pytest.mark.parametrize("key", SMALL)
def test_a_missing_key_is_an_error(key: str):
    rest = {name: value for name, value in SMALL.items() if name != key}
    with pytest.raises(ValueError, match="a cell has exactly the keys") as error:
        CellGenotype.from_dict(rest)
    assert str(error.value).endswith(f"got {sorted(rest)}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON: Expecting value"),
        ("sep_conv_3x3", "not JSON: Expecting value"),
        ('"DARTS_V2"', r"a genotype has exactly the keys \['cells'\], got 'DARTS_V2'"),
        ("null", r"a genotype has exactly the keys \['cells'\], got None"),
        ("{}", r"a genotype has exactly the keys \['cells'\], got \[\]"),
        ('{"normal": [], "cells": {}}', r"exactly the keys .*, got \['cells', 'normal'\]"),
        ('{"cells": []}', r"cells must map kinds to cells, got \[\]"),
        ('{"cells": {}}', "a genotype needs at least one cell"),
        ('{"cells": {"normal": [1]}}', r"cell 'normal': a cell has exactly .* got \[1\]"),
    ],
)
def test_a_malformed_text_says_what(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        Genotype.from_json(text)


def test_construction_checks_like_reading_does():
    with pytest.raises(ValueError, match="node 0 reads state 2"):
        CellGenotype(((Edge("a", 2),),), (2,))
    with pytest.raises(ValueError, match="at least one cell"):
        Genotype({})


# Strings of NAS-Bench-201


def test_every_cell_of_nas_bench_201_survives_its_string():
    space = SearchSpace.named("nasbench201").cells["normal"]
    seen = set()
    for names in itertools.product(space.candidates[0], repeat=6):
        a, b, c, d, e, f = names
        text = f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"
        genotype = Genotype.from_arch_string(text)
        assert genotype.to_arch_string() == text
        seen.add(genotype)
    assert len(seen) == space.num_cells == 15_625
    assert Genotype.load(text) == genotype
    assert seen == {Genotype({"normal": cell}) for cell in enumerate_cells(space)}


@pytest.mark.parametrize(
    "text",
    ["", "|", "|a~0|+|a~0|a~1|", "|a~0|+|a~1|a~0|+|a~0|a~1|a~2|", "|a~0|+|a~0|a~1|+|a~0|a~1|a~2|x"],
)
def test_another_text_is_no_cell_of_nas_bench_201(text: str):
    with pytest.raises(ValueError, match="a NAS-Bench-201 cell is written"):
        Genotype.from_arch_string(text)


def test_only_cells_of_nas_bench_201_have_such_a_string():
    with pytest.raises(ValueError, match="only cells of NAS-Bench-201"):
        Genotype.load("DARTS_V2").to_arch_string()
