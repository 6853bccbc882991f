"""The part of a retraining's page, read back."""

import base64
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from darts_gdas.report.markup import join
from darts_gdas.report.page import SCRIPTS, STYLE
from darts_gdas.report.record import read_record
from darts_gdas.report.retraining import ALL_BYTES, PICTURE_BYTES, PNG, retraining_sections
from tests.pages import Page
from tests.report.test_run_page import EVIL, page_of
from tests.report.test_runs import make_run

TRUST = {
    "error": 0.125, "excess": -0.05, "images": [0, 3, 1],
    "confidence": [None, 0.5, 0.9], "accuracy": [None, 0.75, 1.0],
}  # fmt: skip
SEARCH = {"folder": "outputs/s", "same_data": True, "accuracy": 0.5, "selected_accuracy": 0.25}
MISTAKE = {
    "index": 7,
    "class": "cat",
    "said": EVIL,
    "confidence": 0.987,
    "picture": "mistakes/01.png",
}


def retrained(folder: Path, **result: object) -> Path:
    return make_run(folder, result={"kind": "train", "test": {"accuracy": 0.9}, **result})


def put(folder: Path, content: bytes, name: str = "mistakes/01.png") -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


def pictures(page: Page) -> list[dict]:
    return [attributes for tag, attributes in page.elements if tag == "img"]


def test_a_warning_of_the_search_is_told_as_such(tmp_path: Path):
    page, _ = page_of(retrained(tmp_path / "a", warnings=["the cell is the warm start's"]))
    assert "Warnings the search of this cell warned: the cell is the warm start's" in page.text


def test_calibration_is_said_drawn_and_told_in_numbers(tmp_path: Path):
    page, html = page_of(retrained(tmp_path / "a", calibration=TRUST))
    said = "Expected calibration error 12.50 %. On average the network is 5.00 % less sure than it"
    assert said in page.text
    assert (
        "0.0 to 33.3 % 0 - - 33.3 to 66.7 % 3 50.00 75.00 66.7 to 100.0 % 1 90.00 100.00"
        in page.text
    )
    text = html[html.index('<svg viewBox="0 0 270 262" role="img"') :]
    svg = ET.fromstring(text[: text.index("</svg>") + 6])
    assert said in svg.attrib["aria-label"]
    bars = svg.findall("rect")
    plane = 220
    assert [float(bar.attrib["height"]) for bar in bars] == pytest.approx([plane * 0.75, plane])
    assert [float(bar.attrib["x"]) for bar in bars] == pytest.approx(
        [34 + 74.33, 34 + 147.67], abs=0.01
    )
    (even,) = svg.findall("line")
    ends = [float(even.attrib[name]) for name in ("x1", "y1", "x2", "y2")]
    assert ends == [34, 8 + plane, 34 + plane, 8]


@pytest.mark.parametrize(
    "told",
    [None, 3, {}, {**TRUST, "error": "x"}, {**TRUST, "images": [1]}, {**TRUST, "accuracy": 2}],
)
def test_a_damaged_calibration_is_left_out(tmp_path: Path, told: object):
    page, _ = page_of(retrained(tmp_path / "a", calibration=told))
    assert "Calibration" not in page.text and "test accuracy 90.00 %" in page.text


def test_the_worst_mistakes_are_pictures_with_names_that_inject_nothing(tmp_path: Path):
    found = [MISTAKE, {**MISTAKE, "file": f"test/{EVIL}.png", "picture": "mistakes/02.png"}]
    folder = retrained(tmp_path / "a", mistakes=found)
    put(folder, PNG + b"one")
    page, _ = page_of(folder)
    (shown,) = pictures(page)
    assert shown["alt"] == f"image 7: cat, taken for {EVIL}"
    assert base64.b64decode(shown["src"].partition(",")[2]) == PNG + b"one"
    assert f"cat taken for {EVIL} , 98.70 % image 7" in page.text
    assert f"test/{EVIL}.png" in page.text  # whose picture is gone


def test_pictures_are_of_the_runs_folder_and_bounded_in_size(tmp_path: Path):
    count = ALL_BYTES // PICTURE_BYTES + 3
    found = [{**MISTAKE, "picture": f"mistakes/{i}.png"} for i in range(count)]
    strange = [
        "../b/mistakes/1.png",
        "/etc/passwd",
        "mistakes",
        "mistakes/98.png",
        "a\0b",
        4,
        None,
    ]
    strange += ["mistakes/99.png"]
    found = [{**MISTAKE, "picture": path} for path in strange] + found
    folder = retrained(tmp_path / "a", mistakes=found)
    retrained(tmp_path / "b")
    put(tmp_path / "b", PNG, "mistakes/1.png")
    put(folder, PNG + bytes(PICTURE_BYTES), "mistakes/98.png")
    put(folder, b"no picture", "mistakes/99.png")
    for i in range(count):
        put(folder, PNG + bytes(PICTURE_BYTES - len(PNG)), f"mistakes/{i}.png")
    page, html = page_of(folder)
    assert len(pictures(page)) == ALL_BYTES // PICTURE_BYTES
    own = sum(map(len, (STYLE, *SCRIPTS)))
    assert len(html) < 4 / 3 * ALL_BYTES + 30_000 + own
    assert page.text.count("taken for") == len(found) + 1


@pytest.mark.parametrize("same", [True, False])
def test_the_accuracy_stands_beside_that_of_the_search(tmp_path: Path, same: bool):
    folder = retrained(tmp_path / "a", search={**SEARCH, "same_data": same})
    text = page_of(folder)[0].text
    assert "this retraining test 90.00 the search" in text
    assert "all cells together, under shared weights validation 50.00 +40.00" in text
    assert "this cell, under shared weights validation 25.00 +65.00" in text
    assert ("the numbers do not compare" in text) is not same


def test_a_run_under_way_is_compared_by_its_newest_line(tmp_path: Path):
    folder = retrained(tmp_path / "a")
    (folder / "result.json").unlink()
    line = {"epoch": 0, "test/accuracy": 0.4, "search": SEARCH}
    (folder / "metrics.jsonl").write_text(json.dumps(line))
    assert "validation 50.00 -10.00" in page_of(folder)[0].text


def test_where_nothing_is_known_there_is_nothing(tmp_path: Path):
    assert retraining_sections(read_record(retrained(tmp_path / "a"))) == []


def test_many_classes_have_their_most_frequent_confusions(tmp_path: Path):
    names = [f"c{i}" for i in range(21)]
    matrix = [[10 * (i == j) for j in range(21)] for i in range(21)]
    matrix[3][5], matrix[5][3], matrix[0][1] = 30, 10, 1
    classes = {"names": names, "images": [10] * 21, "accuracy": [1.0] * 21, "confusion": matrix}
    page = Page(
        str(join(*retraining_sections(read_record(retrained(tmp_path / "a", classes=classes)))))
    )
    assert "c3 c5 30 75.00 c5 c3 10 50.00 c0 c1 1 9.09" in page.text


def test_cells_of_the_matrix_are_shaded_by_their_share_of_the_class(tmp_path: Path):
    classes = {
        "names": ["a", "b"],
        "images": [4, 0],
        "accuracy": [0.75, None],
        "confusion": [[3, 1], [0, 0]],
    }
    page, _ = page_of(retrained(tmp_path / "a", classes=classes))
    cells = [a["style"] for tag, a in page.elements if tag == "td" and "style" in a]
    assert cells == [f"--share: {share}" for share in ("0.750", "0.250", "0.000", "0.000")]
