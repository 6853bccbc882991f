import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darts_gdas.runtime.dataset import DataFault
from darts_gdas.runtime.decoders import Decoders, Recipe
from darts_gdas.runtime.files import WriteError
from darts_gdas.runtime.picture_cache import SEAL, PictureCache
from darts_gdas.runtime.pictures import Preparation

PREPARE = Preparation(4, 4, 1)
ROOM = 16 + SEAL


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    names = [str(tmp_path / f"{i}.png") for i in range(3)]
    for i, name in enumerate(names):
        Image.new("L", (5, 5), 10 * i).save(name)
    return names


def cached(folder: Path, paths: list[str]) -> Recipe:
    names = [os.path.basename(path).encode() for path in paths]
    return Recipe(PREPARE, PictureCache.of(folder, PREPARE, names))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that this process decodes."""
    found, original = [], Preparation.__call__

    def prepare(self: Preparation, path: str) -> np.ndarray:
        found.append(os.path.basename(path))
        return original(self, path)

    monkeypatch.setattr(Preparation, "__call__", prepare)
    return found


def test_after_the_first_pass_nothing_is_decoded(
    tmp_path: Path, paths: list[str], decoded: list[str]
):
    without = Recipe(PREPARE, None)(paths, [0, 1, 2])
    decoded.clear()
    for _ in range(2):  # by one run, and by another
        recipe = cached(tmp_path / "cache", paths)
        assert np.array_equal(recipe(paths[::-1], [2, 1, 0]), without[::-1])
        assert np.array_equal(recipe(paths, [0, 1, 2]), without)
        assert decoded == ["2.png", "1.png", "0.png"]
    (file,) = (tmp_path / "cache").iterdir()
    assert file.stat().st_size == 3 * ROOM


@pytest.mark.parametrize("damage", ["half", "bit", "nothing written", "changed since"])
def test_what_is_not_whole_or_old_is_decoded_again(
    tmp_path: Path, paths: list[str], decoded: list[str], damage: str
):
    recipe = cached(tmp_path / "cache", paths)
    recipe(paths, [0, 1, 2])
    decoded.clear()
    assert recipe.cache is not None
    content = bytearray(recipe.cache.path.read_bytes())
    if damage == "half":
        content[ROOM + 8 : 2 * ROOM] = bytes(ROOM - 8)
    elif damage == "bit":
        content[ROOM + 3] ^= 4
    elif damage == "nothing written":
        content[ROOM : 2 * ROOM] = bytes(ROOM)
    else:
        Image.new("L", (5, 5), 77).save(paths[1])
        os.utime(paths[1], ns=(1, 1))
    recipe.cache.path.write_bytes(content)
    level = 77 if damage == "changed since" else 10
    for _ in range(2):
        assert recipe(paths, [0, 1, 2])[:, 0, 0, 0].tolist() == [0, level, 20]
    assert decoded == ["1.png"]


def test_pictures_of_another_folder_are_not_taken_for_these(tmp_path: Path, paths: list[str]):
    """Their names, sizes and times are the same, as an archive may set them."""
    others = [str(tmp_path / "other" / os.path.basename(path)) for path in paths]
    (tmp_path / "other").mkdir()
    for i, (path, other) in enumerate(zip(paths, others, strict=True)):
        for name, level in ((path, 10 * i), (other, 10 * i + 5)):
            Image.new("L", (5, 5), level).save(name, "BMP")
            os.utime(name, ns=(1, 1))
        assert os.stat(path).st_size == os.stat(other).st_size
    for chosen, level in ((paths, 10), (others, 15), (paths, 10)):
        recipe = cached(tmp_path / "cache", chosen)
        assert recipe(chosen, [0, 1, 2])[:, 0, 0, 0].tolist() == [level - 10, level, level + 10]


def test_other_sets_and_other_preparations_have_other_files(tmp_path: Path):
    made = [
        PictureCache.of(tmp_path, prepare, names).path
        for prepare, names in (
            (PREPARE, [b"a", b"b"]),
            (PREPARE, [b"ab", b""]),
            (Preparation(5, 4, 1), [b"a", b"b"]),
        )
    ]
    assert len(set(made)) == 3


def test_a_vanished_file_is_an_error_though_its_pixels_are_kept(tmp_path: Path, paths: list[str]):
    recipe = cached(tmp_path / "cache", paths)
    recipe(paths, [0, 1, 2])
    os.unlink(paths[1])
    with pytest.raises(DataFault, match=r"1\.png.*No such file"):
        recipe(paths, [0, 1, 2])


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disc_without_the_room_is_told_before_the_run(
    tmp_path: Path, paths: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "posix_fallocate", full)
    message = r"dataset\.cache='.*' cannot hold 3 pictures, 6e-08 GB: No space left on device"
    with pytest.raises(WriteError, match=message):
        cached(tmp_path / "cache", paths)
    assert not any((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("write", [full, lambda *_: 3], ids=["refused", "in part"])
def test_a_disc_that_fills_is_one_error(
    tmp_path: Path, paths: list[str], monkeypatch: pytest.MonkeyPatch, write, workers: int
):
    recipe = cached(tmp_path / "cache", paths)
    monkeypatch.setattr(os, "pwrite", write)  # a fork has it too
    with pytest.raises(DataFault, match=r"cache: '.*' cannot be written: No space left on device"):
        Decoders(workers).request(recipe, paths, [0, 1, 2]).wait()
