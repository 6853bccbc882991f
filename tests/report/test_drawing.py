from xml.etree import ElementTree

import pytest

from darts_gdas.report.drawing import draw_cells
from darts_gdas.report.text import operation_label
from darts_gdas.space import Genotype, published_names


@pytest.mark.parametrize("name", published_names()[:4])
def test_every_operation_and_state_is_drawn_inside_the_picture(name: str):
    genotype = Genotype.load(name)
    for kind, drawing in draw_cells(genotype).items():
        cell, svg = genotype.cells[kind], ElementTree.fromstring(drawing)
        left, top, width, height = map(float, svg.get("viewBox", "").split())
        boxes = list(svg.iter("rect"))
        for box in boxes:
            x, y, w, h = (float(box.get(key, "")) for key in ("x", "y", "width", "height"))
            assert left <= x and x + w <= left + width and top <= y and y + h <= top + height
        texts = ["".join(text.itertext()) for text in svg.iter("text")]
        labels = [operation_label(edge.op) for edges in cell.nodes for edge in edges]
        inputs = [f"ck-{cell.num_inputs - i}" for i in range(cell.num_inputs)]
        states = [*inputs, *map(str, range(len(cell.nodes))), "ck"]
        assert sorted(texts) == sorted([*labels, *states])
        wires = [path.get("class") for path in svg.iter("path")]
        assert wires.count("wire") == wires.count("rim") > 0


def test_a_drawing_is_small_and_made_once():
    genotype = Genotype.load("DARTS_V2")
    assert draw_cells(genotype) is draw_cells(Genotype.load("DARTS_V2"))
    assert sum(map(len, draw_cells(genotype).values())) < 20_000
