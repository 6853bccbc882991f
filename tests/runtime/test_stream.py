import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darts_gdas.runtime import decoders, stream
from darts_gdas.runtime.augment import Augment, Normalize
from darts_gdas.runtime.data import BatchStream, evaluation_batches
from darts_gdas.runtime.dataset import DataFault
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.folder import ImageFolder, Storage
from darts_gdas.runtime.images import Images, ImageSet
from darts_gdas.runtime.look import loaded
from darts_gdas.runtime.pictures import Preparation
from darts_gdas.runtime.stream import FileSet

CHANGES = Augment(crop_padding=2, flip=True, cutout=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """14 JPEGs and PNGs for training, 5 for testing, of many sizes, two classes."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 14), ("test", 5)):
        for i in range(count):
            path = tmp_path / part / f"class{i % 2}" / f"{i:02d}.{'png' if i % 3 else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            height, width = rng.integers(8, 40, 2)
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return tmp_path


def both(folder: Path, part: int, **settings: object) -> tuple[ImageSet, FileSet]:
    """A part of the set in memory, and as a stream."""
    told = {"root": str(folder), "image_size": 8}
    one = ImageFolder(**told, storage=Storage.memory).load()[part]
    other = ImageFolder(**told, storage=Storage.stream, **settings).load()[part]
    assert isinstance(one, ImageSet) and isinstance(other, FileSet)
    return one, other


def batches(images: Images, **changes) -> BatchStream:
    normalize = Normalize(*images.statistics())
    options = {"batch_size": 4, "augment": CHANGES, "seed": 0, "name": "w", "channels_last": True}
    return BatchStream(images, normalize=normalize, **(options | changes))


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:2], other[:2], strict=True))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("balanced", [False, True])
def test_batches_are_those_of_the_memory_bit_for_bit(folder: Path, workers: int, balanced: bool):
    one, other = (batches(images, balanced=balanced) for images in both(folder, 0, workers=workers))
    for step in (*range(9), 30, 5):  # on over epochs, ahead, back
        assert same(one.batch(step), other.batch(step))


def test_evaluation_is_that_of_the_memory(folder: Path):
    one, other = both(folder, 1, workers=2)
    normalize = Normalize(*one.statistics())
    passes = [
        evaluation_batches(images, batch_size=2, normalize=normalize) for images in (one, other)
    ]
    pairs = list(zip(*passes, strict=True))
    assert len(pairs) == 3 and all(same(*pair) for pair in pairs)


def test_parts_and_statistics_are_those_of_the_memory(folder: Path):
    one, other = both(folder, 0, workers=0)
    assert torch.equal(one.labels, other.labels) and one.preparation == other.preparation
    assert (one.shape, one.classes, len(one)) == (other.shape, other.classes, len(other))
    assert all(map(torch.equal, one.statistics(), other.statistics()))
    chosen = torch.tensor([5, 2, 11])
    assert torch.equal(one.select(chosen).images, other.select(chosen).sample.images[[0, 1, 2]])
    assert torch.equal(one.pixels(chosen), other.to("cpu").pixels(chosen))


def test_ranks_read_their_own_parts_and_have_the_same_batches(folder: Path):
    _, images = both(folder, 0, workers=0)
    asked: list[int] = []
    request = images.decoders.request
    images.decoders.request = lambda *told: asked.append(len(told[2])) or request(*told)
    shared = [batches(images, ranks=Ranks(rank, 2)) for rank in range(2)]
    asked.clear()
    for step in range(3):
        parts = [made.batch(step) for made in shared]
        whole = batches(images).batch(step)
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert asked.count(2) == 6 and asked.count(4) == 3


def test_no_more_is_read_ahead_than_is_bounded(folder: Path):
    _, images = both(folder, 0, workers=1)
    made = batches(images)
    for step in (0, 1, 7, 2):
        made.batch(step)
        assert len(made._read._begun) == stream.AHEAD


def test_statistics_and_looks_of_a_larger_set_are_of_a_sample(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    for path in (folder / "train").rglob("*.*"):
        Image.new("RGB", (8, 8), (7, 7, 7)).save(path)
    monkeypatch.setattr(stream, "SAMPLE", 4)
    made = ImageFolder(root=str(folder), image_size=8, storage=Storage.stream, workers=0)
    with caplog.at_level(logging.WARNING):
        train, test = loaded(made)
    assert len(train.sample) == 4 and len(test.sample) == 4
    assert train.sample.labels.tolist() == sorted(train.sample.labels.tolist())
    assert any(
        m.startswith("all 4 training images are of one colour")
        and m.endswith("(looked at: 4 of 14 training images, 4 of 5 test images)")
        for m in caplog.messages
    )


def test_nothing_may_be_asked_for(folder: Path):
    _, files = both(folder, 0, workers=2)
    assert files.pixels(torch.empty(0, dtype=torch.int64)).shape == (0, 3, 8, 8)


def test_a_digest_looks_past_the_first_files_and_past_the_cache(tmp_path: Path):
    """The last 16 of 80 pictures change; of another set's pixels a cache must not speak."""
    for part, count in (("train", 80), ("test", 2)):
        (tmp_path / "set" / part / "a").mkdir(parents=True)
        (tmp_path / "set" / part / "b").mkdir()
        for i in range(count):
            path = tmp_path / "set" / part / "ab"[2 * i // count] / f"{i:02}.bmp"
            Image.new("RGB", (8, 8), (i, 0, 0)).save(path)

    def digest() -> str:
        told = {"storage": Storage.stream, "image_size": 8, "cache": str(tmp_path / "cache")}
        return ImageFolder(root=str(tmp_path / "set"), workers=0, **told).load()[0].digest()

    before = digest()
    assert digest() == before
    for i in range(64, 80):
        Image.new("RGB", (8, 8), (i, 9, 9)).save(tmp_path / "set" / "train" / "b" / f"{i:02}.bmp")
    assert digest() != before


def test_a_digest_tells_names_labels_and_pixels_apart_but_not_places(folder: Path):
    def digest(root: Path) -> str:
        made = ImageFolder(root=str(root), image_size=8, storage=Storage.stream, workers=0)
        return made.load()[0].digest()

    found = digest(folder)
    moved = folder.rename(folder.with_name("moved"))
    assert digest(moved) == found
    (moved / "train" / "class0" / "00.jpg").rename(moved / "train" / "class0" / "00b.jpg")
    renamed = digest(moved)
    Image.new("RGB", (8, 8)).save(moved / "train" / "class0" / "00b.jpg")
    assert len({found, renamed, digest(moved)}) == 3


def test_a_file_that_vanishes_is_named(folder: Path):
    _, images = both(folder, 0, workers=2)
    (folder / "train" / "class1" / "03.jpg").unlink()
    with pytest.raises(DataFault, match=r"cannot be read, '.*class1/03\.jpg' \(.*No such file"):
        images.pixels(torch.arange(14))
    assert len(images.pixels(torch.arange(7))) == 7  # class 0 is there


def test_a_file_that_cannot_be_read_before_the_run_is_bad_input(folder: Path):
    (folder / "train" / "class1" / "03.jpg").write_bytes(b"no picture")
    made = ImageFolder(root=str(folder), image_size=8, storage=Storage.stream, workers=0)
    with pytest.raises(ValueError, match=r"cannot be read, '.*class1/03\.jpg'"):
        loaded(made)


def test_a_huge_picture_is_refused_where_it_is_decoded():
    with pytest.raises(ValueError, match=r"it has 1 megapixels.*dataset\.max_megapixels=1$"):
        Preparation(8, 8, 3, max_megapixels=0.5)(_picture(1000))


def _picture(side: int) -> Path:
    path = Path("picture.png")
    Image.new("L", (side, side)).save(path)
    return path


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(decoders, "PATIENCE", 60.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_arrive_on_the_device(folder: Path):
    one, other = (images.to("cuda") for images in both(folder, 0, workers=2))
    made = [batches(images) for images in (one, other)]
    assert all(same(made[0].batch(step), made[1].batch(step)) for step in range(6))
