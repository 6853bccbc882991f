import json

import numpy as np
import pytest
import torch

from darts_gdas import Mixture
from darts_gdas.nets import CellMixture
from darts_gdas.report.alphas import Lead, alphas_line, moves_of, probabilities_of
from darts_gdas.search.diagnostics import is_undecided
from darts_gdas.space import CellSpace, Genotype, SearchSpace
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


def line_of(epoch: int, rows: list[list[float]], ops: tuple[str, str]) -> dict:
    """An epoch of a cell with two inputs, one node and three candidates."""
    names = ["none", "skip_connect", "sep_conv_3x3"]
    cell = {"edges": ["c_k-2->0", "c_k-1->0"], "candidates": names, "probabilities": rows}
    nodes = [[[op, source] for source, op in enumerate(ops)]]
    genotype = {"cells": {"normal": {"inputs": 2, "nodes": nodes, "output": [2]}}}
    return {"epoch": epoch, "alphas": {"normal": cell}, "genotype": genotype}


SKIP_FIRST, CONV_FIRST, EQUAL = [0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [1 / 3] * 3
LINES = [
    line_of(0, [SKIP_FIRST, EQUAL], ("skip_connect", "skip_connect")),
    line_of(1, [CONV_FIRST, EQUAL], ("sep_conv_3x3", "skip_connect")),
    line_of(2, [SKIP_FIRST, EQUAL], ("skip_connect", "skip_connect")),
    line_of(3, [SKIP_FIRST, CONV_FIRST], ("skip_connect", "skip_connect")),
]


def test_what_leads_by_how_much_and_since_when():
    """0.6 leads 0.3 by 0.3 and is 0.8 of 1/3 above it; the lead was taken twice, at last in 3."""
    moves = moves_of(LINES)["normal"]
    first, second = moves.leads.values()
    assert first == Lead("skip_connect", 0.6, pytest.approx(0.3), pytest.approx(0.8), 3, 2)
    assert second == Lead("sep_conv_3x3", 0.6, pytest.approx(0.4), pytest.approx(0.8), 4, 1)
    assert moves.leaders["c_k-2->0"] == ["skip_connect", "sep_conv_3x3", *["skip_connect"] * 2]
    assert moves.reach == pytest.approx(0.6 - 1 / 3)
    assert moves.change == pytest.approx(0.6 - 0.2)  # in epoch 2, undone in epoch 3
    assert moves.cuts[1] == {"c_k-2->0": "sep_conv_3x3", "c_k-1->0": "skip_connect"}
    assert moves.unchanged_since == 3


def test_alphas_that_stay_where_they_began_lie_far_from_equal_shares_and_did_not_move():
    lines = [line_of(epoch, [SKIP_FIRST, CONV_FIRST], ("none", "none")) for epoch in range(3)]
    moves = moves_of(lines)["normal"]
    assert moves.reach == pytest.approx(0.6 - 1 / 3) and moves.change == 0


@pytest.mark.parametrize("n", [2, 3, 8])
def test_undecided_means_the_same_as_in_the_search(n: int):
    """Two implementations of one rule, here and in `search.diagnostics`, around its limit."""
    names = tuple(SearchSpace.named("darts").cells["normal"].candidates[0][:n])
    space = SearchSpace({"normal": CellSpace((names,) * 2, 1)})
    told = []
    for top in np.linspace(0.01, 0.99, 99):
        row = [top, *[(1 - top) / (n - 1)] * (n - 1)]
        line = line_of(0, [row, row], ("skip_connect", "skip_connect"))
        line["alphas"]["normal"]["candidates"] = list(names)
        moves = moves_of([line])["normal"]
        mixture = Mixture({"normal": CellMixture(torch.tensor([row, row]).double())})
        assert moves.is_undecided == is_undecided(mixture, space), top
        told.append(moves.is_undecided)
    # Of one against n - 1 that are level: its share lies between 1 / (2 n - 1) and 2 / (n + 1).
    first, last = told.index(True), 98 - told[::-1].index(True)
    assert (first + 1) / 100 == pytest.approx(1 / (2 * n - 1), abs=0.011)
    assert (last + 1) / 100 == pytest.approx(2 / (n + 1), abs=0.011)


def test_lines_of_another_shape_are_left_out():
    other = line_of(1, [[0.5, 0.5]], ("none", "none"))
    other["alphas"]["normal"] |= {"edges": ["x"], "candidates": ["a", "b"]}
    damaged = LINES[2] | {"genotype": {"cells": {"normal": {"nodes": [["x"]]}}}}
    moves = moves_of([LINES[0], other, {"epoch": 9, "alphas": 3}, damaged])["normal"]
    assert moves.epochs == [1, 3] and moves.cuts[1] == {}
    assert moves_of([]) == {} and moves_of([{"epoch": 0}]) == {}
