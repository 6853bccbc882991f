import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from darts_gdas.runtime.files import (
    RunFolder,
    WriteError,
    check_writable,
    new_folder,
    traces,
    write_atomically,
    write_text,
)


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path: Path):
    path = tmp_path / "value.txt"
    write_text(path, "old")

    def half(file):
        file.write(b"ne")
        raise RuntimeError("disc full")

    with pytest.raises(RuntimeError, match="disc full"):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["value.txt"]


def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path: Path, monkeypatch):
    path = tmp_path / "value.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["value.txt"]


def test_new_folders_are_never_the_same(tmp_path: Path):
    paths = {RunFolder.new(tmp_path / "runs").path for _ in range(5)}
    assert len(paths) == 5 and all(path.is_dir() for path in paths)


def test_a_new_folder_that_cannot_be_made_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be made"):
        RunFolder.new(tmp_path / "file")


def test_a_locked_folder_is_in_use_and_a_dead_process_releases_it(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.create()
    program = (
        "import sys; from pathlib import Path; from darts_gdas.runtime.files import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lock(): print('locked', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        assert folder.in_use
        message = rf"is in use by another process \({process.pid} on .* since \d{{4}}-"
        for look in (folder.lock().__enter__, folder.check_free):
            with pytest.raises(ValueError, match=message):
                look()
        assert RunFolder.newest(tmp_path.parent, finished=False) != folder
    finally:
        process.kill()
        process.communicate()
    assert not folder.in_use
    with folder.lock():
        pass


def finish(folder: RunFolder, time: int) -> None:
    folder.create()
    folder.write_json("result.json", {"kind": "search"})
    os.utime(folder.result, (time, time))


def test_newest_is_the_run_that_finished_last(tmp_path: Path):
    runs = [RunFolder(tmp_path / name) for name in ("a", "b", "sweep/0")]
    for time, run in zip((30, 10, 20), runs, strict=True):
        finish(run, time)
    assert RunFolder.newest(tmp_path, finished=True) == runs[0]
    os.utime(runs[2].result, (40, 40))
    assert RunFolder.newest(tmp_path, finished=True) == runs[2]


def test_newest_unfinished_leaves_out_finished_runs(tmp_path: Path):
    done, open_run = RunFolder(tmp_path / "done"), RunFolder(tmp_path / "open")
    finish(done, 50)
    open_run.create()
    assert RunFolder.newest(tmp_path, finished=False) == open_run
    assert RunFolder.newest(tmp_path / "nothing", finished=True) is None


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"run_dir '.*file' cannot be made"):
        RunFolder(tmp_path / "file").create()


def test_what_is_not_json_is_not_written(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON compliant"):
        RunFolder(tmp_path).write_json("x.json", {"a": float("nan")})
    assert os.listdir(tmp_path) == []


def test_write_json_is_json(tmp_path: Path):
    RunFolder(tmp_path).write_json("x.json", {"a": [1, 2.5]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1, 2.5]}


def test_a_full_disc_names_file_and_bytes_and_leaves_no_part(tmp_path: Path):
    """A limit on the size of files stands for the disc; the system refuses in the same call."""
    path = tmp_path / "value.txt"
    write_text(path, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        message = r"value\.txt' cannot be written: File too large; it takes 20,000 bytes, the disc"
        with pytest.raises(WriteError, match=message):
            write_text(path, "x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["value.txt"]


def test_writing_into_a_vanished_folder_is_one_error(tmp_path: Path):
    with pytest.raises(WriteError, match=r"a\.txt' cannot be written: No such file or directory"):
        write_text(tmp_path / "gone" / "a.txt", "x")


def test_temporary_files_of_the_dead_are_removed_and_no_others(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.create()
    kept = {folder.path / ".hidden.tmp", folder.path / "x.1.tmp", folder.checkpoints / ".a.pt"}
    left = {folder.path / ".result.json.12.tmp", folder.checkpoints / ".step-1.pt.7.tmp"}
    for path in kept | left:
        path.write_text("")
    with folder.lock():
        folder.remove_temporaries()
    assert all(path.exists() for path in kept) and not any(path.exists() for path in left)


def test_a_folder_that_can_be_made_leaves_nothing_when_asked(tmp_path: Path):
    check_writable(tmp_path)
    check_writable(tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["file", "file/run", "/proc/run", "/proc/1/run"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, place: str):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=rf"{place}' cannot be made or written .* pass run_dir="):
        check_writable(tmp_path / place)


def test_two_folders_of_one_name_are_two(tmp_path: Path):
    """As of two sweeps that begin in the same second."""
    made = [new_folder(tmp_path / "sweep_12-00-00") for _ in range(3)]
    assert [path.name for path in made] == [
        "sweep_12-00-00", "sweep_12-00-00_2", "sweep_12-00-00_3"
    ]  # fmt: skip


def test_traces_tell_files_apart_without_reading_them(tmp_path: Path):
    """A name, a size or a change is another trace; links are followed, a loop is no trap."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_text("1")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    seen = [traces(tmp_path / "a")]
    assert traces(tmp_path / "a") == seen[0]
    (tmp_path / "a" / "b" / "two").write_text("2")
    seen.append(traces(tmp_path / "a"))
    (tmp_path / "a" / "one").rename(tmp_path / "a" / "uno")
    seen.append(traces(tmp_path / "a"))
    os.utime(tmp_path / "a" / "uno", (1, 1))
    seen.append(traces(tmp_path / "a"))
    seen.append(traces(tmp_path / "a" / "uno"))
    assert len(set(seen)) == len(seen)
