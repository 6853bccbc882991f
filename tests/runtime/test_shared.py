import os
from pathlib import Path

import numpy as np
import pytest

from darts_gdas.runtime.shared import Memory, Place


def test_rows_come_where_they_were_written_by_another_process():
    rows = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    memory = Memory((4, 3, 5))
    child = os.fork()
    if child == 0:
        memory.place(1).write(rows)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    found = memory.read()
    assert np.array_equal(found[1:3], rows) and not found[[0, 3]].any()


def test_what_nobody_reads_any_more_is_not_written(tmp_path: Path):
    memory, rows = Memory((2, 4)), np.ones((2, 4), dtype=np.uint8)
    place = memory.place(0)
    del memory
    place.write(rows)  # to a name that is gone
    other = tmp_path / "other"
    other.write_bytes(b"of somebody else")
    Place(str(other), other.stat().st_ino + 1, 0).write(rows)  # to one that has been taken since
    assert other.read_bytes() == b"of somebody else"


def test_no_room_is_no_memory(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    memory = Memory((2, 4))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(MemoryError, match="No space left"):
        memory.place(0).write(np.ones((2, 4), dtype=np.uint8))
