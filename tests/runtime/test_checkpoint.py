import hashlib
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from darts_gdas.runtime import checkpoint
from darts_gdas.runtime.checkpoint import CheckpointError, CheckpointFolder, load, save
from darts_gdas.runtime.files import RunFolder, WriteError
from tests.deaths import die_at, is_killed

STATE = {"weights": torch.arange(1000.0), "step": 3, "names": ["a", "b"], "nested": {"x": None}}


def test_a_state_survives(tmp_path: Path):
    path = tmp_path / "state.pt"
    save(path, STATE)
    found = load(path)
    assert torch.equal(found["weights"], STATE["weights"])
    assert {k: v for k, v in found.items() if k != "weights"} == {
        k: v for k, v in STATE.items() if k != "weights"
    }


def test_the_digest_is_in_the_format_of_sha256sum(tmp_path: Path):
    path = tmp_path / "state.pt"
    save(path, STATE)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (tmp_path / "state.pt.sha256").read_text() == f"{digest}  state.pt\n"


def test_one_flipped_bit_is_found(tmp_path: Path):
    path = tmp_path / "state.pt"
    save(path, STATE)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(400.0, 420.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # torch alone sees nothing
    with pytest.raises(CheckpointError, match="damaged: its sha256 does not match"):
        load(path)


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"PK\x03\x04"], ids=["empty", "html", "stub"]
)
@pytest.mark.parametrize("has_digest", [False, True])
def test_garbage_is_one_clear_error(tmp_path: Path, content: bytes, has_digest: bool):
    path = tmp_path / "state.pt"
    if has_digest:
        save(path, STATE)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.pt") as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_truncated_file_without_a_digest_is_an_error(tmp_path: Path, share: float):
    path = tmp_path / "state.pt"
    save(path, STATE)
    path.with_name("state.pt.sha256").unlink()
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(path)


class Evil:
    """Would create a file when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path):
    path, marker = tmp_path / "state.pt", tmp_path / "marker"
    torch.save({"x": Evil(marker)}, path)
    with pytest.raises(CheckpointError):
        load(path)
    assert not marker.exists()


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"nothing\.pt.*cannot be read"):
        load(tmp_path / "nothing.pt")


def test_something_else_than_a_state_is_refused(tmp_path: Path):
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(CheckpointError, match="holds no state"):
        load(tmp_path / "tensor.pt")


def names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".pt"))


def test_the_newest_and_the_best_are_kept(tmp_path: Path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in range(1, 7):
        folder.save(step, STATE | {"step": step}, is_best=step in (1, 2))
    assert names(tmp_path) == [f"step-{step:09d}.pt" for step in (2, 5, 6)]
    best = folder.best()
    assert best is not None and load(best)["step"] == 2
    digests = [name for name in os.listdir(tmp_path) if name.endswith(".sha256")]
    assert len(digests) == 3


def test_going_on_from_an_earlier_step_drops_the_later_ones(tmp_path: Path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in (100, 200, 300):
        folder.save(step, STATE | {"step": step}, is_best=step == 300)
    folder.save(110, STATE | {"step": 110}, is_best=False)
    assert names(tmp_path) == ["step-000000110.pt"]
    folder.save(120, STATE | {"step": 120}, is_best=False)
    found = folder.newest()
    assert found is not None and found[1]["step"] == 120 and folder.best() is None


def test_damaged_bytes_of_any_kind_are_a_checkpoint_error(tmp_path: Path):
    """Without a digest to tell: torch raises almost anything, a user gets one type."""
    path = tmp_path / "state.pt"
    save(path, {"x": torch.zeros(2), "y": 1})
    path.with_name("state.pt.sha256").unlink()
    original, generator = path.read_bytes(), random.Random(0)
    failures = 0
    for _ in range(200):
        content = bytearray(original)
        for _ in range(3):
            content[generator.randrange(len(content))] = generator.randrange(256)
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load(path)
        except CheckpointError:
            failures += 1
    assert failures > 50


def test_a_damaged_newest_falls_back_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = CheckpointFolder(tmp_path, keep=3)
    for step in (1, 2, 3):
        folder.save(step, STATE | {"step": step}, is_best=False)
    newest = tmp_path / "step-000000003.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    found = folder.newest()
    assert found is not None and found[1]["step"] == 2
    assert "step-000000003.pt" in caplog.text and "going on from step-000000002.pt" in caplog.text


def test_if_none_loads_it_is_an_error_and_an_empty_folder_is_none(tmp_path: Path):
    folder = CheckpointFolder(tmp_path)
    assert folder.newest() is None and folder.best() is None
    folder.save(1, STATE, is_best=False)
    (tmp_path / "step-000000001.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* loads"):
        folder.newest()


def test_a_failing_save_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch):
    path = tmp_path / "state.pt"
    save(path, STATE)
    monkeypatch.setattr(checkpoint.torch, "save", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(path, {})
    assert load(path)["step"] == 3
    assert len(os.listdir(tmp_path)) == 2


def test_killed_at_any_moment_of_a_save_the_old_state_or_the_new_is_there(tmp_path: Path):
    """By SIGKILL before every operation in turn; what is left of a file goes at the next start."""
    died = parts = 0
    found = set()
    while True:
        run = RunFolder(tmp_path / str(died))
        run.create()
        folder = CheckpointFolder(run.checkpoints, keep=1)
        folder.save(1, STATE | {"step": 1}, is_best=True)

        def save_another(folder: CheckpointFolder = folder, operation: int = died):
            die_at(operation)
            folder.save(2, STATE | {"step": 2}, is_best=True)

        if not is_killed(save_another):
            break
        died += 1
        parts += any(name.endswith(".tmp") for name in os.listdir(run.checkpoints))
        with run.lock():
            run.remove_temporaries()
        assert not any(name.endswith(".tmp") for name in os.listdir(run.checkpoints))
        newest = folder.newest()
        assert newest is not None
        found.add(newest[1]["step"])
        best = folder.best()
        assert best is not None and load(best)["step"] in (1, newest[1]["step"])
    # Three files (state, digest, note), each two halves, fsync, rename, folder; and two removals.
    assert died == 3 * 6 + 2 and parts == 3 * 4 and found == {1, 2}


def test_one_checkpoint_can_be_enough(tmp_path: Path):
    folder = CheckpointFolder(tmp_path, keep=1)
    for step in (1, 2, 3):
        folder.save(step, STATE | {"step": step}, is_best=False)
    assert names(tmp_path) == ["step-000000003.pt"]


@pytest.mark.parametrize(
    "note", ["../outside.pt", "/etc/passwd", "step-000000001.pt/../../outside.pt", "", "\0", "."]
)
def test_the_note_of_the_best_leads_nowhere_else(tmp_path: Path, note: str):
    save(tmp_path / "outside.pt", STATE)
    folder = CheckpointFolder(tmp_path / "checkpoints")
    folder.folder.mkdir()
    folder.save(1, STATE, is_best=True)
    (folder.folder / "best").write_text(note + "\n")
    assert folder.best() is None


def test_a_link_in_place_of_the_note_is_replaced_and_not_followed(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    folder = CheckpointFolder(tmp_path / "checkpoints")
    folder.folder.mkdir()
    (folder.folder / "best").symlink_to(outside)
    assert folder.best() is None
    folder.save(1, STATE, is_best=True)
    assert outside.read_text() == "mine" and not (folder.folder / "best").is_symlink()


def test_a_checkpoint_that_is_a_link_out_of_the_folder_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    save(tmp_path / "outside.pt", STATE | {"step": 9})
    folder = CheckpointFolder(tmp_path / "checkpoints")
    folder.folder.mkdir()
    folder.save(1, STATE | {"step": 1}, is_best=False)
    (folder.folder / "step-000000009.pt").symlink_to(tmp_path / "outside.pt")
    found = folder.newest()
    assert found is not None and found[1]["step"] == 1
    assert "out of the run folder; going on from step-000000001.pt" in caplog.text
    folder.save(2, STATE | {"step": 2}, is_best=False)  # the link goes, not what it names
    assert (tmp_path / "outside.pt").exists() and "step-000000009.pt" not in names(folder.folder)


def test_a_folder_of_checkpoints_may_itself_be_a_link(tmp_path: Path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "checkpoints").symlink_to(tmp_path / "scratch")
    folder = CheckpointFolder(tmp_path / "checkpoints")
    folder.save(1, STATE, is_best=False)
    found = folder.newest()
    assert found is not None


def test_where_a_checkpoint_cannot_be_written_its_bytes_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else the collector of Python 3.13 may meet them in an order that it complains about."""
    written: list[memoryview] = []

    def fail(path: Path, write: Callable[[Any], object], num_bytes: int) -> None:
        write(SimpleNamespace(write=written.append))
        assert written[0].nbytes == num_bytes
        raise WriteError("a full disc")

    monkeypatch.setattr(checkpoint, "write_atomically", fail)
    with pytest.raises(WriteError):
        save(tmp_path / "step.pt", {"a": torch.zeros(3)})
    with pytest.raises(ValueError, match="released memoryview"):
        written[0].tobytes()
