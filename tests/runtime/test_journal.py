"""Measurements survive a crash: what is whole is kept, what is not is measured again."""

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from darts_gdas.runtime import files
from darts_gdas.runtime.files import WriteError
from darts_gdas.runtime.journal import Journal, Numbers
from darts_gdas.runtime.saving import OnSaveError, Writes
from tests.deaths import die_at, is_killed

KEYS = ["a", "b", "c"]
NUMBERS: dict[str, Numbers] = {
    "a": {"first": 0.1 + 0.2, "second": -math.inf},
    "b": {"first": 2.0, "second": math.inf},
    "c": {"first": 1e-300, "second": 1 / 3},
}


class Counting:
    """Measurements that tell which were made."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, i: int) -> Numbers:
        self.calls.append(i)
        return NUMBERS[KEYS[i]]


def measured(path: Path | None, settings: str = "s") -> tuple[list[Numbers], list[int]]:
    """What is found, and what was measured for it."""
    measure = Counting()
    return Journal(path, settings).measure_all(KEYS, measure), measure.calls


def test_a_second_run_measures_nothing_and_finds_the_same_bits(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    assert measured(path) == ([*NUMBERS.values()], [0, 1, 2])
    assert measured(path) == ([*NUMBERS.values()], [])
    assert len(Journal(path, "s")) == 3


def test_a_number_that_is_none_is_kept(tmp_path: Path):
    Journal(tmp_path / "j", "s").add("a", {"x": math.nan})
    found = Journal(tmp_path / "j", "s").find("a")
    assert found is not None and math.isnan(found["x"])


@pytest.mark.parametrize("cut", [1, 30])
def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path, cut: int):
    path = tmp_path / "journal.jsonl"
    measured(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert measured(path) == ([*NUMBERS.values()], [2])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("operation", range(12))
def test_killed_at_any_moment_no_more_than_one_measurement_is_lost(tmp_path: Path, operation: int):
    path = tmp_path / "journal.jsonl"

    def begin() -> None:
        die_at(operation)
        measured(path)

    is_killed(begin)
    before = path.read_bytes().count(b"\n") if path.exists() else 0
    found, calls = measured(path)
    assert found == [*NUMBERS.values()]
    assert calls == [*range(max(before - 1, 0), 3)]


def test_other_settings_begin_anew(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    measured(path)
    assert measured(path, "other")[1] == [0, 1, 2]
    assert path.read_text().startswith('{"settings": "other"}\n')


def test_progress_begins_where_it_stood_and_counts_what_occurs_twice(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    journal = Journal(tmp_path / "j", "s")
    journal.add("b", NUMBERS["b"])

    def report(done: int, total: int) -> None:
        seen.append((done, total))

    found = journal.measure_all(["a", "b", "a", "c"], lambda i: NUMBERS["abac"[i]], report)
    assert found == [NUMBERS[key] for key in "abac"]
    assert seen == [(1, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    "line",
    [
        "3", "[]", "{}", '{"key": "x"}', '{"key": [], "numbers": {}}',
        '{"key": "x", "numbers": []}',
        '{"key": "x", "numbers": {"first": "__import__"}}',
        '{"key": "x", "numbers": {"first": [1]}}',
        '{"key": "x", "numbers": {}, "__reduce__": 1}',
    ],
)  # fmt: skip
def test_from_a_whole_line_that_is_no_measurement_it_is_measured_anew(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "journal.jsonl"
    measured(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], line + "\n", lines[3]]))
    assert measured(path) == ([*NUMBERS.values()], [2])
    assert "journal.jsonl: line 4 is no measurement; measuring anew" in caplog.text


@pytest.mark.parametrize("content", [b"\x80\x04K\x01.", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b""])
def test_a_file_that_is_no_journal_is_begun_anew(tmp_path: Path, content: bytes):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    assert Journal(path, "a").find("a") is None
    assert path.read_text() == '{"settings": "a"}\n'


@contextlib.contextmanager
def full_disc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fail)
        yield


def test_on_a_full_disc_the_policy_decides_and_no_part_of_a_line_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "j"
    for policy in OnSaveError:
        journal = Journal(path, policy.value, Writes(policy).attempt)
        whole = path.read_bytes()
        with full_disc(monkeypatch):
            add = partial(journal.add, "a", NUMBERS["a"])
            if policy is OnSaveError.stop:
                with pytest.raises(
                    WriteError, match=r"what is measured: .*No space left on device"
                ):
                    add()
            else:
                add()
                assert journal.find("a") == NUMBERS["a"]
        assert path.read_bytes() == whole
