"""Files with a sum of their own and of a key."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darts_gdas.ntk.sealed import create, is_whole, read_array, write_array


def test_an_array_counts_under_its_key_alone(tmp_path: Path):
    path, array = tmp_path / "a.npy", np.arange(3.0)
    assert not is_whole(path, "one") and read_array(path, "one") is None
    write_array(path, "one", array)
    found = read_array(path, "one")
    assert found is not None and (found == array).all()
    with pytest.warns(UserWarning, match=r"a\.npy is damaged"):
        assert read_array(path, "another") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "a.sha256"]


@pytest.mark.parametrize("links", [True, False])
def test_the_first_creates_a_file(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")  # as of discs that have none

    if not links:
        monkeypatch.setattr(os, "link", refused)
    for content in (b"one", b"two"):
        create(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
