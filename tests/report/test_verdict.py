from pathlib import Path

import pytest

from darts_gdas.report.record import Record
from darts_gdas.report.verdict import CLOSE_TO_RANDOM, FROM_WARM_START, verdict
from tests.report.test_alphas import CONV_FIRST, EQUAL, LINES, SKIP_FIRST, line_of

SKIPS = ("skip_connect", "skip_connect")


def record_of(lines: list[dict], **result: object) -> Record:
    return Record(Path("x"), "search", lines, result=result)


def said(*lines: dict, **result: object) -> str:
    return str(verdict(record_of([*lines], **result)))


def test_the_same_cell_for_long_is_settled():
    rows = [SKIP_FIRST, CONV_FIRST]
    lines = [line_of(e, rows, SKIPS if e > 2 else ("none", "none")) for e in range(20)]
    assert said(*lines) == (
        "settled: the same cell since epoch 4 of 20; on half of the edges the lead is 40 points "
        "or more"
    )


def test_a_cell_that_has_just_changed_is_not():
    rows = [SKIP_FIRST, CONV_FIRST]
    lines = [line_of(e, rows, SKIPS if e > 18 else ("none", "none")) for e in range(20)]
    assert said(*lines).startswith("still changing: the cell last changed in epoch 20 of 20;")


def test_flat_alphas_have_hardly_moved():
    assert said(line_of(0, [EQUAL, EQUAL], SKIPS)) == f"hardly moved: {CLOSE_TO_RANDOM}"


def test_what_alphas_that_hardly_moved_leave_behind_is_no_collapse():
    line = line_of(0, [EQUAL, EQUAL], SKIPS) | {"collapsed": {"normal": "2 of 2 operations ..."}}
    assert said(line) == f"hardly moved: {CLOSE_TO_RANDOM}"


def test_warnings_are_not_said_again():
    found = verdict(record_of([line_of(0, [EQUAL, EQUAL], SKIPS)]))
    assert found is not None
    warnings = [f"{CLOSE_TO_RANDOM}. What helps", "2 of 2. But", CLOSE_TO_RANDOM]
    assert found.beyond(warnings) == ["What helps", "2 of 2. But"]


def test_a_collapse_comes_first_and_in_the_words_of_the_search():
    lines = [*LINES[:-1], LINES[-1] | {"collapsed": {"normal": "2 of 2 operations ..."}}]
    assert said(*lines) == "collapsed: 2 of 2 operations ..."
    assert said(*lines, collapsed={"normal": "3 of 3"}) == "collapsed: 3 of 3"
    assert said(*lines, collapsed={}).startswith("settled")


def test_where_nothing_learns_the_cell_is_drawn():
    for line in (LINES[0], line_of(0, [EQUAL, EQUAL], SKIPS)):  # whatever its alphas are
        assert said(line | {"collapsed": None}).startswith("without alphas: ")


def test_known_accuracies_are_named():
    known = {"accuracy": 93.5, "regret": 0.87, "percentile": 98.2}
    assert said(*LINES, benchmark=known).endswith(
        "; known accuracy 93.50 %, 0.87 below the best and no worse than 98.2 % of all cells"
    )
    assert "known accuracy" not in said(*LINES, benchmark={"accuracy": "x"})


@pytest.mark.parametrize(
    "record", [record_of([]), record_of([{"epoch": 0}]), Record(Path("x"), "train", LINES)]
)
def test_of_other_runs_nothing_is_said(record: Record):
    assert verdict(record) is None


def test_what_the_warm_start_decided_has_not_settled_in_the_search():
    warnings = [f"{FROM_WARM_START}. What lets the alphas move: ..."]
    assert said(*LINES, warnings=warnings) == f"unchanged: {FROM_WARM_START}"
    assert said(*LINES[:-1], LINES[-1] | {"warnings": warnings}).startswith("unchanged: ")
    assert said(*LINES, warnings=["the learning rate is high"]).startswith("settled: ")
    assert said(*LINES, warnings=warnings, collapsed={"normal": "3 of 3"}) == "collapsed: 3 of 3"
