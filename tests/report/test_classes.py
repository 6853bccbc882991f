import json
from pathlib import Path

from tests.report.test_run_page import EVIL, page_of
from tests.report.test_runs import make_run

TOLD = {
    "names": ["many", EVIL, "none"],
    "images": [300, 4, 0],
    "accuracy": [0.99, 0.25, None],
    "confusion": [[297, 3, 0], [2, 1, 1], [0, 0, 0]],
}


def test_classes_stand_with_the_worst_first_and_what_they_are_taken_for(tmp_path: Path):
    test = {"accuracy": 0.98, "balanced_accuracy": 0.62}
    result = {"kind": "train", "test": test, "classes": TOLD}
    text = page_of(make_run(tmp_path / "a", result=result))[0].text
    assert "balanced accuracy, the mean over classes 62.00 %" in text
    rows = f"{EVIL} 4 25.00 many (2) many 300 99.00 {EVIL} (3) none 0 - -"
    assert rows in text and "many 297 3 0" in text and "none 0 0 0" in text


def test_a_run_that_is_under_way_has_them_in_its_lines(tmp_path: Path):
    folder = make_run(tmp_path / "a", result={"kind": "train"})
    (folder / "result.json").unlink()
    for told, is_there in (
        (TOLD, True),
        ({**TOLD, "confusion": None}, True),
        ({**TOLD, "images": [1]}, False),
        ({**TOLD, "names": "abc"}, False),
        ([], False),
    ):
        line = {"epoch": 0, "test/accuracy": 0.5, "test/balanced_accuracy": 0.4, "classes": told}
        (folder / "metrics.jsonl").write_text(json.dumps(line))
        text = page_of(folder)[0].text
        assert ("many 300 99.00" in text) is is_there
        assert "the mean over classes 40.00 %" in text


def test_of_a_thousand_classes_the_worst_hundred_are_shown(tmp_path: Path):
    told = {
        "names": [f"c{i}" for i in range(1000)],
        "images": [1] * 1000,
        "accuracy": [i / 1000 for i in range(999, -1, -1)],
    }
    text = page_of(make_run(tmp_path / "a", result={"kind": "train", "classes": told}))[0].text
    assert "c900 1 9.90" in text and "c899 1" not in text
    assert "and 900 classes with higher accuracies" in text
