"""Files with a sum of their own and of a key."""

from pathlib import Path

import numpy as np
import pytest

from darts_gdas.ntk.sealed import is_whole, read_array, write_array


def test_an_array_counts_under_its_key_alone(tmp_path: Path):
    path, array = tmp_path / "a.npy", np.arange(3.0)
    assert not is_whole(path, "one") and read_array(path, "one") is None
    write_array(path, "one", array)
    found = read_array(path, "one")
    assert found is not None and (found == array).all()
    with pytest.warns(UserWarning, match=r"a\.npy is damaged"):
        assert read_array(path, "another") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "a.sha256"]
