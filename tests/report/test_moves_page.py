import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from darts_gdas.report.alphas import alphas_line
from darts_gdas.report.moves_page import moved_kinds, slider
from darts_gdas.report.record import Record
from darts_gdas.space import Genotype
from tests.pages import SCRIPT, chart_values, curves, figures
from tests.report.test_alphas import EQUAL, LINES, line_of, through_json
from tests.report.test_tensorboard import SPACE, view_at


def record_of(lines: list[dict]) -> Record:
    found = lines[-1].get("genotype")
    genotype = Genotype.from_json(json.dumps(found)) if found else None
    return Record(Path("x"), "search", lines, genotype=genotype)


def tables(markup: str) -> list[list[list[str]]]:
    tree = ElementTree.fromstring(SCRIPT.sub("", markup))
    return [
        [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        for table in tree.iter("table")
    ]


def test_leads_and_heat_map_say_the_last_epoch():
    (kind,) = moved_kinds(record_of(LINES))
    leads, heat = tables(kind)
    assert leads[1][:7] == ["c_k-2 \u2192 0", "skip", "60.00", "+30", "1.8\u00d7", "3", "2"]
    assert leads[2][:7] == [
        "c_k-1 \u2192 0",
        "sep conv 3\u00d73",
        "60.00",
        "+40",
        "1.8\u00d7",
        "4",
        "1",
    ]
    assert heat[1:] == [
        ["c_k-2 \u2192 0", "10.00", "60.00", "30.00"],
        ["c_k-1 \u2192 0", "20.00", "20.00", "60.00"],
    ]
    assert "lie up to 27 points from equal shares (33.3 %); they moved since" in kind
    assert "since the line of epoch 1 by up to 40. On" in kind  # from 0.6 to 0.2 and back
    assert "skip from epoch 1, sep conv 3\u00d73 from epoch 2, skip from epoch 3" in kind


def test_the_script_gets_every_probability_and_every_cut():
    (kind,) = moved_kinds(record_of(LINES))
    data = json.loads(SCRIPT.findall(kind)[-1])
    values = data["unit"] * np.array(data["values"])
    expected = [line["alphas"]["normal"]["probabilities"] for line in LINES]
    assert values == pytest.approx(np.array(expected), abs=5e-6)
    assert data["epochs"] == [1, 2, 3, 4] and [first for first, _ in data["cuts"]] == [0, 1, 2]
    assert data["cuts"][1][1]["c_k-2->0"] == ["sep conv 3\u00d73", "sep"]


def test_curves_are_of_the_clearest_edge_around_equal_shares():
    (kind,) = moved_kinds(record_of(LINES))
    ((title, figure),) = figures(kind).items()
    assert title.startswith("c_k-1 \u2192 0: points above or below equal shares")
    *_, conv = curves(figure)
    assert [y for _, y in conv] == pytest.approx([0, 0, 0, 60 - 100 / 3], abs=0.3)
    ((_, values),) = chart_values(kind).items()
    assert values["range"][2] == -values["range"][3]  # equal shares are in the middle


def test_nothing_moved_is_said_in_a_sentence():
    (kind,) = moved_kinds(record_of([line_of(0, [EQUAL, EQUAL], ("none", "none"))]))
    assert "Nothing moved: in no epoch is a probability further than" in kind
    almost = [[0.3334, 0.3333, 0.3333], EQUAL]
    (kind,) = moved_kinds(record_of([line_of(0, almost, ("none", "none"))]))
    assert "further than 0.0067 points from equal shares (33.3 %)" in kind


def test_all_kinds_share_one_scale_and_one_slider():
    lines = [{"epoch": e} | through_json(alphas_line(view_at(e))) for e in range(3)]
    record = record_of(lines)
    kinds = moved_kinds(record)
    assert len(kinds) == len(SPACE.cells)
    scales = {json.loads(SCRIPT.findall(kind)[-1])["reach"] for kind in kinds}
    assert scales == {max(moves.reach for moves in record.moves.values())}
    assert 'max="2"' in slider(record.moves) and slider({}) == ""
    assert slider(record_of(lines[:1]).moves) == ""  # nothing to choose


def test_weights_of_edges_have_a_chart_where_there_are_any():
    weights = {kind: np.arange(5) / 10 for kind in SPACE.cells}
    line = {"epoch": 0} | through_json(alphas_line(replace(view_at(0), edge_weights=weights)))
    found = figures(moved_kinds(record_of([line, line | {"epoch": 1}]))[0])
    assert len(curves(found["Weights of the edges"])) == 5
    assert moved_kinds(record_of([{"epoch": 0}])) == []
