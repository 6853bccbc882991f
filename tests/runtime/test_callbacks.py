import json
from pathlib import Path

from darts_gdas.runtime.callbacks import MetricsFile
from darts_gdas.runtime.task import EpochReport, Progress

START = Progress(0, 3, 0, 5)


def report(epoch: int, *, is_best: bool = False) -> EpochReport:
    metrics = {"train/loss": 1.25, "train/accuracy": 0.5}
    return EpochReport(epoch, 3, 5 * (epoch + 1), metrics, is_best, 2.0)


def test_metrics_are_one_json_object_per_line(tmp_path: Path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.on_start(START)
    for epoch in range(3):
        metrics.on_epoch_end(report(epoch))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert lines[0]["train/loss"] == 1.25 and lines[2]["step"] == 15


def test_a_line_holds_details_as_they_are_at_the_end_of_its_epoch(tmp_path: Path):
    details: dict[str, object] = {"rows": [[0.5]]}
    metrics = MetricsFile(tmp_path / "metrics.jsonl", lambda: details)
    metrics.on_epoch_end(report(0))
    details["rows"], details["note"] = [[0.25]], "x"
    metrics.on_epoch_end(report(1))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["rows"] for line in lines] == [[[0.5]], [[0.25]]]
    assert "note" not in lines[0] and lines[1]["note"] == "x" and lines[1]["epoch"] == 1


def test_a_resumed_run_drops_the_lines_it_will_write_again(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    for epoch in range(3):
        metrics.on_epoch_end(report(epoch))
    path.write_bytes(path.read_bytes() + b'null\n\xff\n{"epoch": 3, "st')  # cut off by a crash
    metrics.on_start(Progress(2, 4, 1, 5))
    metrics.on_epoch_end(report(2))
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [0, 1, 2]
