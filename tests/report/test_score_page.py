from pathlib import Path

from darts_gdas.report.columns import csv_text
from tests.pages import dots, figures
from tests.report.test_run_page import EVIL, page_of
from tests.report.test_runs import make_run

CELL = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|skip_connect~2|"
COLUMNS = {
    "rank": [1, 2, 3],
    "cell": [CELL, EVIL, "x"],
    "rank sum": [3.0, 2.0, 1.0],
    "params": [51234, 4, 6],
    "ntk": [-1.5, "-inf", -3.0],
    "ntk standard error": [0.1, "nan", 0.1],
    "accuracy": [93.0, 92.0, 80.0],
}


def make_ranking(folder: Path, columns: dict) -> Path:
    tau = {"kind": "score", "scores": ["ntk", "params"], "kendall_tau": {"ntk": [0.5, 0.25, 0.75]}}
    make_run(folder, "count=3", result=tau, repeats=1)
    (folder / "scores.csv").write_text(csv_text(columns))
    return folder


def test_a_ranking_shows_cells_scores_and_correlations(tmp_path: Path):
    page, html = page_of(make_ranking(tmp_path / "a", COLUMNS))
    found = figures(html)
    assert list(found) == [f"accuracy against {n}" for n in ("rank sum", "params", "ntk")]
    assert [len(dots(figure)) for figure in found.values()] == [
        3,
        3,
        2,
    ]  # an infinite score has no place
    assert "ntk 0.5 0.25 0.75" in page.text and EVIL in page.text and "51,234" in page.text
    assert "Ranked by the sum of the ranks of ntk, params; the more, the better" in page.text
    assert f"python train.py \"genotype='{CELL}'\"" in page.text
    assert page.count("svg") == 1 + 3 and "python -m darts_gdas.score count=3" in page.text


def test_without_accuracies_scores_stand_against_parameters(tmp_path: Path):
    columns = {name: values for name, values in COLUMNS.items() if name != "accuracy"}
    _, html = page_of(make_ranking(tmp_path / "a", columns))
    assert list(figures(html)) == ["params against rank sum", "params against ntk"]


def test_a_ranking_of_old_shows_its_logarithms(tmp_path: Path):
    page, _ = page_of(make_ranking(tmp_path / "a", COLUMNS | {"params": [7.835, 7.25, 8.0]}))
    assert "7.835" in page.text


def test_a_ranking_without_a_table_is_a_page_too(tmp_path: Path):
    folder = make_ranking(tmp_path / "a", COLUMNS)
    for text in ("", "a,b\n1,2\n", "rank,cell\n"):
        (folder / "scores.csv").write_text(text)
        assert not figures(page_of(folder)[1])
    (folder / "result.json").unlink()
    assert "not finished" in page_of(folder)[0].text
