from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darts_gdas.runtime.pictures import Header, Preparation, extremes, header


def test_a_header_says_size_mode_and_number(tmp_path: Path):
    Image.new("I;16", (3, 5)).save(tmp_path / "a.png")
    Image.new("L", (4, 4)).save(
        tmp_path / "b.gif", save_all=True, append_images=[Image.new("L", (4, 4), 9)]
    )
    (tmp_path / "c.txt").write_text("text")
    assert header(tmp_path / "a.png") == Header((3, 5), "I;16", is_series=False)
    second = header(tmp_path / "b.gif")
    assert second is not None and second.is_series and not second.is_deep
    assert header(tmp_path / "c.txt") is None and header(tmp_path / "nowhere") is None


def test_extremes_are_those_of_the_pixels(tmp_path: Path):
    Image.fromarray(np.array([[7, -3], [70000, 0]], dtype=np.int32)).save(tmp_path / "a.tif")
    assert extremes(tmp_path / "a.tif") == (-3.0, 70000.0)
    Image.fromarray(np.array([[np.nan, 1]], dtype=np.float32)).save(tmp_path / "b.tif")
    assert extremes(tmp_path / "b.tif") is None and extremes(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("size", "lost"), [((640, 480), 0.25), ((480, 640), 0.25), ((5, 5), 0.0), ((300, 100), 2 / 3)]
)
def test_the_centre_square_of_a_picture_loses_what_lies_beside_it(size, lost: float):
    assert Preparation(32, 32, 3).lost(size) == pytest.approx(lost)


def test_pixels_that_are_not_finite_are_refused(tmp_path: Path):
    Image.fromarray(np.array([[np.nan, 1]], dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="not all finite"):
        Preparation(1, 2, 1, (0.0, 1.0))(tmp_path / "a.tif")
