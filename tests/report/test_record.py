import json
from pathlib import Path

import pytest

from darts_gdas.report.record import find_records, is_run, read_record
from darts_gdas.space import Genotype
from tests.report.test_runs import make_run

LINES = [
    {"epoch": 0, "seconds": 1.5, "train/loss": 2.0, "validation/accuracy": 0.5},
    {"epoch": 1, "seconds": 2.0, "train/loss": 1.0, "search/eigenvalue": 3.0, "note": "a/b"},
]


def write_lines(folder: Path, *lines: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def test_metrics_alone_are_enough(tmp_path: Path):
    record = read_record(write_lines(tmp_path, *LINES))
    assert record.kind == "search" and record.overrides is None and not record.config
    assert record.curve("train/loss") == [(1.0, 2.0), (2.0, 1.0)]
    assert record.curve("search/eigenvalue") == [(2.0, 3.0)] and record.curve("x") == []
    assert record.metrics == ["train/loss", "validation/accuracy", "search/eigenvalue"]
    assert record.seconds == 3.5 and not record.damage


def test_a_finished_run_tells_everything(tmp_path: Path):
    folder = make_run(tmp_path / "a", "method=darts")
    genotype = Genotype.load("DARTS_V2")
    (folder / "genotype.json").write_text(genotype.to_json())
    record = read_record(folder)
    assert record.overrides == ["method=darts"] and record.config["epochs"] == 3
    assert record.seconds == 12.5 and record.genotype == genotype


def test_lines_that_were_cut_repeated_or_damaged_are_told(tmp_path: Path):
    again = {"epoch": 0, "train/loss": 9.0}
    folder = write_lines(tmp_path, LINES[1], LINES[0], again, ["no", "line"])
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 2, "train/lo')
    record = read_record(folder)
    assert record.curve("train/loss") == [(1.0, 9.0), (2.0, 1.0)]
    assert record.damage == ["metrics.jsonl: 2 lines cannot be read"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.yaml", "a: ["), ("overrides.yaml", "a: 1"), ("result.json", "[]"),
     ("result.json", "{"), ("genotype.json", "{}"), ("scores.csv", "a,b\n1\n")],
)  # fmt: skip
def test_what_is_damaged_is_named_and_the_rest_is_read(tmp_path: Path, name: str, content: str):
    folder = write_lines(tmp_path, *LINES)
    (folder / name).write_text(content)
    record = read_record(folder)
    assert len(record.damage) == 1 and "cannot be read" in record.damage[0]
    assert record.curve("train/loss") == [(1.0, 2.0), (2.0, 1.0)]


def test_what_a_run_should_have_left_is_missed(tmp_path: Path):
    alone = read_record(write_lines(tmp_path / "a", *LINES))
    assert alone.missing == [
        "config.yaml is missing: this page has no settings",
        "overrides.yaml is missing: this page has no command to repeat the run",
    ]
    ended = read_record(make_run(tmp_path / "b"))
    assert ended.missing == ["metrics.jsonl is missing: this page has no curves"]
    (tmp_path / "b" / "result.json").unlink()
    assert read_record(tmp_path / "b").missing == []  # before the first epoch there are none
    ranking = read_record(make_run(tmp_path / "c", result={"kind": "score"}))
    assert ranking.missing == ["scores.csv is missing: this page has no cells"]


def test_the_kind_is_told_by_whatever_is_left(tmp_path: Path):
    trained = write_lines(tmp_path / "a", {"epoch": 0, "test/accuracy": 0.5})
    assert read_record(trained).kind == "train"
    assert read_record(make_run(tmp_path / "b", result={"kind": "train"})).kind == "train"
    assert read_record(make_run(tmp_path / "c", result={}, repeats=3)).kind == "score"
    assert read_record(make_run(tmp_path / "d", result={"kind": ["x"]})).kind == "search"
    ending = {"kind": "train", "seconds": 2}
    assert read_record(write_lines(tmp_path / "e", *LINES), result=ending).kind == "train"


def test_jobs_of_a_sweep_are_found_in_their_order(tmp_path: Path):
    for number in (10, 9, 2):
        write_lines(tmp_path / "sweep" / str(number), *LINES)
    names = [record.folder.name for record in find_records(tmp_path)]
    assert names == ["2", "9", "10"]
    assert is_run(tmp_path / "sweep" / "2") and not is_run(tmp_path)


def test_folders_without_runs_are_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"it has no metrics\.jsonl"):
        read_record(tmp_path / "empty")
    with pytest.raises(ValueError, match="is no run folder and holds none"):
        find_records(tmp_path / "empty")
    with pytest.raises(ValueError, match="is no folder"):
        find_records(tmp_path / "nowhere")


@pytest.mark.parametrize(("epochs", "missing"), [(0, []), (3, ["metrics.jsonl"])])
def test_a_search_that_trains_nothing_has_no_curves_to_miss(
    tmp_path: Path, epochs: int, missing: list[str]
):
    folder = make_run(tmp_path / "run", "method=random", epochs=epochs)
    assert [text.split()[0] for text in read_record(folder).missing] == missing
