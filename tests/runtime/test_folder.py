import logging
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from darts_gdas.runtime.folder import ImageFolder, Storage
from darts_gdas.runtime.split import class_share, stratified_split
from darts_gdas.runtime.stream import FileSet


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (9, 7), color: object = 0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)  # type: ignore[arg-type]


def in_both_parts(root: Path, name: str, pixels: np.ndarray) -> None:
    for part in ("train", "test"):
        path = root / part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def truncated_jpeg(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes of plain colours: the images tell where they come from."""
    for part in ("train", "test"):
        picture(tmp_path / part / "cat" / "b.png", color=(255, 0, 0))
        picture(tmp_path / part / "cat" / "a.PNG", color=(0, 255, 0), size=(40, 8))
        picture(tmp_path / part / "cat" / "deep" / "er" / "c.bmp", color=(0, 0, 255), size=(3, 3))
        picture(tmp_path / part / "dog" / "grey.pgm", mode="L", color=128, size=(8, 90))
    return tmp_path


def test_folder_is_read_in_order_in_colour(tree: Path):
    train, test = ImageFolder(root=str(tree), image_size=8).load()
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 0, 1]
    assert train.images.shape == (4, 3, 8, 8)
    colours = torch.tensor([[0, 255, 0], [255, 0, 0], [0, 0, 255], [128] * 3], dtype=torch.uint8)
    assert torch.equal(train.images, colours[:, :, None, None].expand(4, 3, 8, 8))
    assert torch.equal(train.images, test.images) and torch.equal(train.labels, test.labels)


def test_images_know_their_files_also_where_some_are_left_out(tree: Path):
    truncated_jpeg(tree / "test" / "cat" / "aa.jpg")
    os.rename(tree / "test" / "dog" / "grey.pgm", os.fsencode(tree / "test" / "dog") + b"/\xff.pgm")
    _, test = ImageFolder(root=str(tree), image_size=8, skip_corrupt=True).load()
    files = ("cat/a.PNG", "cat/b.png", "cat/deep/er/c.bmp", "dog/?.pgm")
    assert test.names == tuple(f"test/{file}" for file in files)
    assert test.select(torch.tensor([3, 0])).names == (test.names[3], test.names[0])


def test_folder_is_read_in_grey(tree: Path):
    train, _ = ImageFolder(root=str(tree), image_size=5, channels=1).load()
    luma = torch.tensor([150, 76, 29, 128], dtype=torch.uint8)  # 0.587, 0.299, 0.114 of 255
    assert torch.equal(train.images, luma[:, None, None, None].expand(4, 1, 5, 5))


def test_centre_of_the_picture_is_kept(tmp_path: Path):
    """30 x 10: a black, a white and a black square; the white one is all that is left."""
    pixels = np.zeros((10, 30), dtype=np.uint8)
    pixels[:, 10:20] = 255
    in_both_parts(tmp_path, "wide/a.png", pixels)
    in_both_parts(tmp_path, "tall/a.png", pixels.T)
    train, _ = ImageFolder(root=str(tmp_path), image_size=10).load()
    assert (train.images == 255).all()


def test_pictures_of_the_right_size_are_unchanged(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    in_both_parts(tmp_path, "a/a.png", pixels)
    train, _ = ImageFolder(root=str(tmp_path), image_size=6).load()
    assert torch.equal(train.images[0], torch.from_numpy(pixels).permute(2, 0, 1))


@pytest.mark.parametrize("size", [8, 16])  # of 128: a JPEG may be decoded at a coarser scale
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_scaling_down_averages(tmp_path: Path, size: int, suffix: str):
    """A chessboard of single pixels becomes grey, where aliasing would leave black or white."""
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    in_both_parts(tmp_path, f"a/a.{suffix}", board)
    train, _ = ImageFolder(root=str(tmp_path), image_size=size, channels=1).load()
    inner = train.images[0, 0, 1:-1, 1:-1].float()
    assert_close(inner, torch.full_like(inner, 127.5), atol=3, rtol=0)


def test_sixteen_bits_are_scaled_not_clipped(tree: Path):
    values = np.linspace(0, 4095, 25).reshape(5, 5).astype(np.uint16)  # 12 bits in 16
    in_both_parts(tree, "dog/deep.png", values)
    for declared, high in ((None, 4095), ([0.0, 65535.0], 65535)):
        train, _ = ImageFolder(root=str(tree), image_size=5, value_range=declared).load()
        expected = torch.from_numpy((255 * values.astype(float) / high).round()).to(torch.uint8)
        assert torch.equal(train.images[3], expected.expand(3, 5, 5))  # "deep" before "grey"


def test_transparent_palettes_are_read_without_a_warning(tree: Path):
    image = Image.new("P", (5, 5), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tree / "train" / "dog" / "a.png", transparency=bytes([0, 128]))
    train, _ = ImageFolder(root=str(tree), image_size=4).load()
    assert train.images[3, :, 0, 0].tolist() == [10, 20, 30]


def test_hidden_and_other_files_are_passed_over(tree: Path):
    picture(tree / "train" / ".cache" / "a.png")
    picture(tree / "train" / "dog" / ".thumbnails" / "a.png")
    (tree / "train" / "dog" / "._grey.pgm").write_text("what a Mac leaves behind")
    (tree / "train" / "dog" / "README.txt").write_text("not a picture")
    (tree / "train" / "list.csv").write_text("not a class")
    train, _ = ImageFolder(root=str(tree), image_size=4).load()
    assert train.classes == ("cat", "dog") and len(train) == 4


def test_corrupt_picture_is_named(tree: Path):
    truncated_jpeg(tree / "train" / "dog" / "half.jpg")
    with pytest.raises(ValueError, match=r"no readable image, .*half\.jpg.*skip_corrupt=true"):
        ImageFolder(root=str(tree)).load()


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n\x00\x00"], ids=repr)
def test_what_is_no_picture_is_named(tree: Path, content: bytes):
    (tree / "test" / "cat" / "odd.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"no readable image, .*odd\.png"):
        ImageFolder(root=str(tree)).load()


def test_float_pictures_are_refused(tree: Path):
    picture(tree / "train" / "dog" / "float.tif", mode="F", color=0.5)
    with pytest.raises(ValueError, match=r"float\.tif.*floats of unknown range"):
        ImageFolder(root=str(tree)).load()


def test_corrupt_pictures_are_skipped_and_counted(tree: Path, caplog: pytest.LogCaptureFixture):
    intact, _ = ImageFolder(root=str(tree), image_size=8).load()
    for i in range(4):
        truncated_jpeg(tree / "train" / "cat" / f"a{i}.jpg")
    with caplog.at_level(logging.WARNING):
        train, test = ImageFolder(root=str(tree), image_size=8, skip_corrupt=True).load()
    assert torch.equal(train.images, intact.images) and torch.equal(train.labels, intact.labels)
    assert len(test) == 4
    message = caplog.messages[-1]
    assert message.startswith("skipped 4 of 8 images that cannot be read: ")
    assert re.findall(r"a\d\.jpg", message) == ["a0.jpg", "a1.jpg", "a2.jpg"]
    assert message.endswith(", ...")


def test_class_of_corrupt_pictures_alone_is_refused(tree: Path):
    truncated_jpeg(tree / "train" / "dog" / "grey.jpg")
    (tree / "train" / "dog" / "grey.pgm").unlink()
    with pytest.raises(ValueError, match=r"none of the 1 images of class 'dog' can be read.*grey"):
        ImageFolder(root=str(tree), skip_corrupt=True).load()


def test_folder_needs_a_root(tmp_path: Path):
    with pytest.raises(ValueError, match=r"dataset\.root must name a folder .* dataset\.root=PATH"):
        ImageFolder().load()
    with pytest.raises(ValueError, match=r"dataset\.root must be a folder, .*nowhere"):
        ImageFolder(root=str(tmp_path / "nowhere")).load()


def test_folder_needs_a_part_to_train_on(tree: Path):
    (tree / "train").rename(tree / "elsewhere")
    with pytest.raises(ValueError, match=r"must hold train/<class>/, but there is no .*/train'"):
        ImageFolder(root=str(tree)).load()


def test_folder_needs_classes(tmp_path: Path):
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match=r"one folder per class in '.*/train'"):
        ImageFolder(root=str(tmp_path)).load()


def test_classes_need_images(tree: Path):
    (tree / "train" / "emu").mkdir()
    with pytest.raises(ValueError, match=r"'.*/train/emu' has none \(.*\.jpg"):
        ImageFolder(root=str(tree)).load()


def test_train_and_test_need_the_same_classes(tree: Path):
    (tree / "test" / "dog").rename(tree / "test" / "emu")
    with pytest.raises(ValueError, match=r"only in train: \['dog'\], only in test: \['emu'\]"):
        ImageFolder(root=str(tree)).load()


def test_memory_is_refused_before_anything_is_decoded(tree: Path):
    (tree / "train" / "cat" / "b.png").write_text("corrupt, but nobody looks")
    # 8 images of 3 * 10^6 bytes
    settings = {"root": str(tree), "image_size": 1000, "max_gigabytes": 0.02}
    with pytest.raises(ValueError, match=r"8 images .* 0\.024 GB .*max_gigabytes=0\.02;"):
        ImageFolder(**settings, storage=Storage.memory).load()


@pytest.mark.parametrize(("gigabytes", "chosen"), [(0.02, "stream"), (0.03, "memory")])
def test_auto_chooses_by_the_expected_bytes_and_says_why(
    tree: Path, caplog: pytest.LogCaptureFixture, gigabytes: float, chosen: str
):
    with caplog.at_level(logging.INFO):
        train, _ = ImageFolder(root=str(tree), image_size=1000, max_gigabytes=gigabytes).load()
    assert isinstance(train, FileSet) == (chosen == "stream")
    (message,) = (text for text in caplog.messages if "storage" in text)
    assert message == (
        f"dataset.storage=auto takes {chosen}: the 8 images of dataset.root take 0.024 GB at "
        f"dataset.image_size=1000, {'not ' * (chosen == 'memory')}more than "
        f"dataset.max_gigabytes={gigabytes:g}"
    )


@pytest.mark.parametrize("storage", [Storage.memory, Storage.stream])
def test_a_fraction_is_of_every_class_and_of_training_alone(tmp_path: Path, storage: Storage):
    for part in ("train", "test"):
        for name, count in (("many", 20), ("few", 1)):
            for i in range(count):
                picture(tmp_path / part / name / f"{i}.png", color=(i, 0, 0))
    settings = {"root": str(tmp_path), "image_size": 4, "storage": storage, "fraction": 0.1}
    train, test = ImageFolder(**settings).load()
    assert train.labels.tolist() == [0, 1, 1] and len(test) == 21  # "few" before "many"
    shown = train.pixels(torch.arange(3))[:, 0, 0, 0].tolist()
    assert shown == ImageFolder(**settings).load()[0].pixels(torch.arange(3))[:, 0, 0, 0].tolist()
    everything = ImageFolder(root=str(tmp_path), image_size=4).load()[0].labels
    names = sorted(map(str, range(20)))
    assert shown[1:] == [int(names[i - 1]) for i in class_share(everything, 0.1, 0).tolist()[1:]]


def test_a_stream_cannot_leave_out_what_cannot_be_read(tree: Path):
    with pytest.raises(ValueError, match=r"skip_corrupt=true needs all .* more than"):
        ImageFolder(root=str(tree), skip_corrupt=True, max_gigabytes=1e-6).load()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1 pixel, got 0"),
        ({"fraction": 0.0}, "fraction must lie in (0, 1], got 0.0"),
        ({"workers": -1}, "workers must lie in 0..256, or be null, got -1"),
        ({"storage": Storage.memory, "workers": 2}, "workers and dataset.cache are of a stream"),
        ({"image_width": 0}, "image_width must be at least 1 pixel, got 0"),
        ({"channels": 2}, "channels must be 3 (colour) or 1 (grey), got 2"),
        ({"max_gigabytes": 0.0}, "max_gigabytes must be positive, got 0.0"),
        ({"max_megapixels": 0.0}, "max_megapixels must be positive, got 0.0"),
        ({"test_fraction": 1.0}, "test_fraction must lie between 0 and 1, got 1.0"),
        ({"value_range": [5.0, 5.0]}, "value_range must be two numbers, [BLACK,WHITE], the first"),
        ({"value_range": [0.0]}, "value_range must be two numbers"),
        ({"value_range": [0.0, float("nan")]}, "value_range must be two numbers"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_at_once(setting: dict, message: str):
    with pytest.raises(ValueError, match=re.escape(f"dataset.{message}")):
        ImageFolder(**setting)


# Values of more than 8 bits


def test_values_of_32_bits_are_scaled_by_the_range_of_the_training_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """CT numbers: -1000 becomes black, 3000 white; what the test set has beyond is cut off."""
    values = {"train": [-1000, 0, 1000, 3000], "test": [-2000, 0, 1000, 9000]}
    for part, row in values.items():
        path = tmp_path / part / "a" / "a.tif"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.array(row, dtype=np.int32).reshape(2, 2)).save(path)
    for part in ImageFolder(root=str(tmp_path), image_size=2, channels=1).load():
        assert part.images.flatten().tolist() == [0, 64, 128, 255]  # 255 / 4 = 63.75
        assert "values of more than 8 bits: -1000 to 3000 become 0 to 255" in part.preparation
    (message,) = caplog.messages
    assert "2 pictures hold integers of more than 8 bits; -1000 becomes black and 3000 w" in message


def test_floats_need_a_declared_range(tmp_path: Path):
    rows = np.array([[0.0, 0.5], [1.0, 7.0]], dtype=np.float32)
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        Image.fromarray(rows).save(tmp_path / part / "a" / "a.tif")
    settings = {"root": str(tmp_path), "image_size": 2, "channels": 1}
    train, _ = ImageFolder(**settings, value_range=[0.0, 1.0]).load()
    assert train.images.flatten().tolist() == [0, 128, 255, 255]
    with pytest.raises(ValueError, match=r"dataset\.value_range=\[BLACK,WHITE\]"):
        ImageFolder(**settings).load()


def test_a_range_that_nothing_needs_is_refused(tree: Path):
    with pytest.raises(ValueError, match=r"value_range has no effect: no picture has more than 8"):
        ImageFolder(root=str(tree), value_range=[0.0, 9.0]).load()


# Files


def test_any_file_that_pillow_reads_is_read_and_all_others_are_counted(
    tree: Path, caplog: pytest.LogCaptureFixture
):
    cat = tree / "train" / "cat"
    for name, form in (("x.jfif", "JPEG"), ("x.jp2", "JPEG2000"), ("without", "PNG")):
        Image.new("RGB", (8, 8), (9, 9, 9)).save(cat / name, form)
    (cat / "notes.txt").write_text("not a picture")
    (cat / "gone.png").symlink_to(tree / "nowhere.png")
    os.mkfifo(cat / "pipe.png")
    (tree / "train" / "stray.png").write_bytes(b"")
    train, _ = ImageFolder(root=str(tree), image_size=8).load()
    assert train.labels.bincount().tolist() == [3 + 3, 1]
    (message,) = (text for text in caplog.messages if "passed over" in text)
    for part in (
        f"1 dead links (such as '{cat}/gone.png')",
        f"1 special files (such as '{cat}/pipe.png')",
        f"1 files without a picture that can be read (such as '{cat}/notes.txt')",
        f"1 files beside the classes' folders (such as '{tree}/train/stray.png')",
    ):
        assert part in message


def test_linked_folders_are_read_and_a_loop_is_no_trap(
    tree: Path, caplog: pytest.LogCaptureFixture
):
    elsewhere = tree / "elsewhere"
    picture(elsewhere / "more" / "d.png", color=(1, 2, 3))
    cat = tree / "train" / "cat"
    (cat / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(cat)
    train, _ = ImageFolder(root=str(tree), image_size=8).load()
    assert train.labels.bincount().tolist() == [4, 1]
    assert any("1 links to a folder that holds them" in text for text in caplog.messages)


def test_a_class_whose_files_are_no_pictures_is_refused(tree: Path):
    (tree / "train" / "emu").mkdir()
    (tree / "train" / "emu" / "a.txt").write_text("text")
    with pytest.raises(ValueError, match=r"'.*/train/emu' has none"):
        ImageFolder(root=str(tree)).load()


def test_of_several_pictures_in_a_file_the_first_is_read_and_that_is_said(
    tree: Path, caplog: pytest.LogCaptureFixture
):
    frames = [Image.new("RGB", (8, 8), (grey, grey, grey)) for grey in (50, 200)]
    path = tree / "train" / "dog" / "a.tif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    train, _ = ImageFolder(root=str(tree), image_size=8).load()
    assert (train.images[3] == 50).all()
    assert any(f"1 files hold several pictures, of which the first is read, such as '{path}'" in m
               for m in caplog.messages)  # fmt: skip


# Names of classes


def test_letters_in_one_piece_or_in_two_are_the_same_class(tree: Path):
    for part, form in (("train", "NFC"), ("test", "NFD")):
        (tree / part / "dog").rename(tree / part / unicodedata.normalize(form, "Am\u00e9lie"))
    train, test = ImageFolder(root=str(tree), image_size=8).load()
    assert train.classes == test.classes == ("Am\u00e9lie", "cat")
    picture(tree / "train" / unicodedata.normalize("NFD", "Am\u00e9lie") / "a.png")
    with pytest.raises(ValueError, match=r"names that look the same, 'Am\\xe9lie' and 'Ame\\u0301"):
        ImageFolder(root=str(tree)).load()


def test_a_name_that_cannot_be_written_is_refused(tree: Path):
    path = os.path.join(os.fsencode(tree), b"train", b"caf\xe9")
    os.mkdir(path)
    with pytest.raises(ValueError, match=r"must be valid UTF-8, got b'caf\\xe9'; rename it"):
        ImageFolder(root=str(tree)).load()


# Images for testing


def test_without_a_folder_for_testing_a_share_of_each_class_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for i in range(20):
        for name in ("a", "b"):
            picture(tmp_path / "train" / name / f"{i:02}.png", color=(i, 0, 0))
    for settings, kept in (({}, 4), ({"test_fraction": 0.5, "seed": 3}, 10)):
        train, test = ImageFolder(root=str(tmp_path), image_size=4, **settings).load()
        assert test.labels.bincount().tolist() == [kept, kept]
        first, second = stratified_split(
            torch.arange(40) // 20, settings.get("test_fraction", 0.2), settings.get("seed", 0)
        )
        assert (test.images[:, 0, 0, 0] == first % 20).all()
        assert (train.images[:, 0, 0, 0] == second % 20).all()
    told = [text for text in caplog.messages if "has no folder test" in text]
    assert len(told) == 1 and "dataset.test_fraction=0.2 says so" in told[0]


def test_val_is_taken_where_there_is_no_test(tree: Path, caplog: pytest.LogCaptureFixture):
    whole = ImageFolder(root=str(tree), image_size=8).load()
    (tree / "test").rename(tree / "val")
    for one, other in zip(ImageFolder(root=str(tree), image_size=8).load(), whole, strict=True):
        assert one.digest() == other.digest()
    picture(tree / "test" / "cat" / "a.png")
    _, test = ImageFolder(root=str(tree), image_size=8).load()
    assert len(test) == 1 and "dataset.root: val is not used, beside test" in caplog.messages
    with pytest.raises(ValueError, match=r"test_fraction=0\.5 has no effect: '.*/test' holds"):
        ImageFolder(root=str(tree), test_fraction=0.5).load()


def test_the_test_images_may_lack_a_class(tree: Path):
    (tree / "test" / "cat").rename(tree / "elsewhere")
    train, test = ImageFolder(root=str(tree), image_size=8).load()
    assert train.classes == test.classes == ("cat", "dog") and test.labels.tolist() == [1]
    (tree / "test" / "dog" / "grey.pgm").unlink()
    with pytest.raises(ValueError, match=r"must hold images in '.*/test'"):
        ImageFolder(root=str(tree)).load()


# Sizes


def test_images_need_not_be_square(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    in_both_parts(tmp_path, "a/a.png", pixels)
    train, _ = ImageFolder(root=str(tmp_path), image_size=4, image_width=6).load()
    assert torch.equal(train.images[0], torch.from_numpy(pixels).permute(2, 0, 1))
    assert train.image_size == (4, 6)


def test_what_the_cut_leaves_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """30 x 10 loses two thirds, 10 x 10 nothing."""
    for part in ("train", "test"):
        picture(tmp_path / part / "a" / "wide.png", size=(30, 10))
        picture(tmp_path / part / "a" / "square.png", size=(10, 10))
    ImageFolder(root=str(tmp_path), image_size=5).load()
    (message,) = (text for text in caplog.messages if "cut to" in text)
    assert "cut to 5x5 pixels leaves out 33 % of the pictures' area on average, 67 % of" in message
    assert "wide.png" in message
    caplog.clear()
    ImageFolder(root=str(tmp_path), image_size=5, image_width=9).load()
    assert "5x9" not in " ".join(caplog.messages) and "9x5" in " ".join(caplog.messages)


def test_a_large_picture_is_named_and_a_larger_one_refused(
    tree: Path, caplog: pytest.LogCaptureFixture
):
    path = tree / "train" / "cat" / "huge.png"
    Image.new("1", (9600, 9600)).save(path)
    train, _ = ImageFolder(root=str(tree), image_size=8).load()
    assert len(train) == 5
    limit = Image.MAX_IMAGE_PIXELS
    (message,) = (text for text in caplog.messages if "large picture" in text)
    assert f"'{path}' (9600x9600 pixels)" in message
    with pytest.raises(ValueError, match=r"92 megapixels, '.*huge\.png'.*max_megapixels=93"):
        ImageFolder(root=str(tree), image_size=8, max_megapixels=92).load()
    assert limit == Image.MAX_IMAGE_PIXELS


def test_how_pictures_were_prepared_is_said(tree: Path):
    train, test = ImageFolder(root=str(tree), image_size=8, image_width=6, channels=1).load()
    assert train.preparation == test.preparation == train.select(torch.tensor([0])).preparation
    scaled, grey, *_ = train.preparation
    assert "covers 6x8 pixels (width x height)" in scaled and grey.startswith("grey")
