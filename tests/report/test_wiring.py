from itertools import combinations

import pytest
from hypothesis import given, settings

from darts_gdas.report.alphas import edge_of
from darts_gdas.report.text import operation_label
from darts_gdas.report.wiring import BOX, GAP, PILL, Wire, Wiring, wiring
from darts_gdas.space import CellGenotype, Genotype, published_names
from tests.report.test_cell_drawing import cells

Rectangle = tuple[float, float, float, float]


def rectangles(drawn: Wiring) -> list[Rectangle]:
    """Left, right, upper and lower side of every box."""
    sizes = [(state.at, BOX, BOX) for state in drawn.states]
    sizes += [(wire.corner, drawn.pill, PILL) for wire in drawn.wires if wire.family]
    return [(x - w / 2, x + w / 2, y - h / 2, y + h / 2) for (x, y), w, h in sizes]


def are_apart(a: Rectangle, b: Rectangle) -> bool:
    return a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]


def assert_is_good(cell: CellGenotype):
    drawn = wiring(cell)
    (width, height), boxes = drawn.size, rectangles(drawn)
    assert all(min(x0, y0) >= 0 and x1 <= width and y1 <= height for x0, x1, y0, y1 in boxes)
    assert all(are_apart(a, b) for a, b in combinations(boxes, 2))
    states = [state.at for state in drawn.states]
    for node, edges in enumerate(cell.nodes):
        for edge in edges:
            (wire,) = of_edge(drawn, edge_of(edge.source, node, cell.num_inputs))
            assert operation_label(edge.op) in wire.label
            source, target = states[edge.source], states[cell.num_inputs + node]
            assert wire.start == (source[0] + BOX / 2, source[1])
            assert wire.corner == (target[0], source[1])
            assert wire.end == (target[0], target[1] - BOX / 2)
    assert sum(state.is_output for state in drawn.states) == len(cell.output)


def of_edge(drawn: Wiring, name: str) -> list[Wire]:
    return [wire for wire in drawn.wires if wire.name == name]


@pytest.mark.parametrize("name", published_names())
def test_published_cells_are_drawn_without_overlap(name: str):
    for cell in Genotype.load(name).cells.values():
        assert_is_good(cell)


@settings(max_examples=30, deadline=None)
@given(cells())
def test_any_cell_is_drawn_without_overlap(cell: CellGenotype):
    assert_is_good(cell)


def test_edges_keep_their_places_whatever_is_on_them():
    names = ["c_k-2->0", "c_k-1->0", "c_k-2->1", "c_k-1->1", "0->1"]
    places = []
    for seed in ("DARTS_V1", "DARTS_V2"):
        drawn = wiring(Genotype.load(seed).cells["normal"], names)
        places.append({w.name: w.corner for w in drawn.wires if w.name in names})
        assert [w.family is None for w in drawn.wires] == sorted(
            (w.family is None for w in drawn.wires), reverse=True
        )
    assert places[0] == places[1] and len(places[0]) == 5


def test_long_names_widen_their_columns():
    cell = Genotype.load("DARTS_V2").cells["normal"]
    nodes = [[[f"{'long_' * 9}name", 0]], *([[e.op, e.source] for e in n] for n in cell.nodes[1:])]
    long = CellGenotype.from_dict({"inputs": 2, "nodes": nodes, "output": [2, 3, 4, 5]})
    assert wiring(long).pill > 2 * wiring(cell).pill
    assert wiring(long).size[0] == 72 + 4 * (wiring(long).pill + GAP)
