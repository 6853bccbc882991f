from xml.etree import ElementTree

import pytest

from darts_gdas.report.cell_svg import draw_cell, draw_cells
from darts_gdas.report.text import operation_label
from darts_gdas.space import Genotype, published_names


@pytest.mark.parametrize("name", published_names()[:4])
def test_every_operation_and_state_is_drawn_inside_the_picture(name: str):
    genotype = Genotype.load(name)
    for drawing, (kind, cell) in zip(draw_cells(genotype), genotype.cells.items(), strict=True):
        svg = next(iter(ElementTree.fromstring(drawing).iter("svg")))
        left, top, width, height = map(float, svg.get("viewBox", "").split())
        for box in svg.iter("rect"):
            x, y, w, h = (float(box.get(key, "")) for key in ("x", "y", "width", "height"))
            assert left <= x and x + w <= left + width and top <= y and y + h <= top + height
        said = " ".join(text.text or "" for text in svg.iter("text"))
        labels = [operation_label(edge.op) for edges in cell.nodes for edge in edges]
        assert all(said.count(label) >= labels.count(label) for label in labels)
        assert kind in svg.get("aria-label", "")


def test_edges_that_are_not_taken_are_dots():
    cell = Genotype.load("DARTS_V2").cells["normal"]
    svg = ElementTree.fromstring(draw_cell(cell, "normal", others=["2->3"], widths={"2->3": 1.0}))
    groups = {g.get("data-edge"): g.get("class") for g in svg.iter("g") if g.get("data-edge")}
    assert groups["2->3"] == "edge cut" and groups["c_k-2->0"] == "edge sep" and len(groups) == 9
    lines = {p.get("data-edge"): p.get("style") for p in svg.iter("path")}
    assert lines["2->3"] == "stroke-width: 7.00"


def test_a_drawing_is_small():
    assert sum(map(len, draw_cells(Genotype.load("DARTS_V2")))) < 20_000
