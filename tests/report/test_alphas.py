import json
from dataclasses import replace

import numpy as np
import pytest

from darts_gdas.report.alphas import alphas_line, probabilities, probabilities_of
from darts_gdas.space import CellSpace, Genotype, SearchSpace
from tests.pages import curves, figures
from tests.report.test_tensorboard import SPACE, view_at


def through_json(line: dict) -> dict:
    return json.loads(json.dumps(line))


def test_a_line_tells_every_probability_by_name():
    view = view_at(3)
    line = through_json(alphas_line(view))
    found = probabilities_of(line)
    assert list(found) == list(SPACE.cells)
    for kind, cell in SPACE.cells.items():
        values = [list(row.values()) for row in found[kind].values()]
        assert np.array(values) == pytest.approx(view.probabilities[kind], abs=5e-6)
        assert list(found[kind]) == ["c_k-2->0", "c_k-1->0", "c_k-2->1", "c_k-1->1", "0->1"]
        assert list(found[kind]["0->1"]) == list(cell.candidates[4])
    assert Genotype.from_json(json.dumps(line["genotype"])) == view.genotype
    assert len(json.dumps(line["alphas"])) < 1000  # names stand there once


def test_edges_keep_their_own_candidates():
    rows = (("none", "skip_connect"), ("sep_conv_3x3",))
    space = SearchSpace({"normal": CellSpace(rows, num_nodes=1)})
    found = probabilities_of(through_json(alphas_line(view_at(0, space))))
    assert list(found["normal"]["c_k-2->0"]) == ["none", "skip_connect"]
    assert list(found["normal"]["c_k-1->0"]) == ["sep_conv_3x3"]


@pytest.mark.parametrize(
    "alphas", [3, {"normal": 3}, {"normal": {}}, None,
               {"normal": {"edges": ["a"], "candidates": [], "probabilities": [[1]]}},
               {"normal": {"edges": ["a"], "candidates": ["b"], "probabilities": []}}],
)  # fmt: skip
def test_a_line_of_another_form_tells_nothing(alphas: object):
    assert probabilities_of({"epoch": 0, "alphas": alphas}) == {}


def test_charts_show_how_each_edge_moved():
    views = [view_at(seed) for seed in range(4)]
    lines = [{"epoch": e} | through_json(alphas_line(view)) for e, view in enumerate(views)]
    parts = probabilities(lines)
    shown = [figures(part) for part in parts if "<figure>" in part]
    assert len(shown) == len(SPACE.cells) and all(len(charts) == 5 for charts in shown)
    figure = shown[1]["c_k-1 \N{RIGHTWARDS ARROW} 1"]
    for candidate, curve in enumerate(curves(figure)):
        expected = [view.probabilities["reduce"][3, candidate] for view in views]
        assert [epoch for epoch, _ in curve] == pytest.approx([1, 2, 3, 4], abs=0.02)
        assert [value for _, value in curve] == pytest.approx(expected, abs=0.001)


def test_weights_of_edges_have_a_chart_where_there_are_any():
    weights = {kind: np.arange(5) / 10 for kind in SPACE.cells}
    line = {"epoch": 0} | through_json(alphas_line(replace(view_at(0), edge_weights=weights)))
    (*_, chart) = (figures(part) for part in probabilities([line]) if "<figure>" in part)
    assert len(list(chart["weights of the edges"].iter("polyline"))) == 5
    assert probabilities([]) == [] and probabilities([{"epoch": 0}]) == []
