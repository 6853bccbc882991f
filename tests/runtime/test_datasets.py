import logging
import pickle
import re
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torchvision.datasets
from omegaconf import OmegaConf
from PIL import Image
from torch.testing import assert_close

from darts_gdas.runtime.augment import Augment
from darts_gdas.runtime.datasets import Cifar10, Cifar100, Dataset, Digits, ImageFolder
from darts_gdas.runtime.images import stratified_split

DATASETS = [Digits, Cifar10, Cifar100, ImageFolder]


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_dataset_is_a_schema_of_omegaconf(dataset: type[Dataset]):
    config = OmegaConf.structured(dataset)
    config.augment.cutout = 3
    built = OmegaConf.to_object(config)
    assert isinstance(built, dataset) and built.augment.cutout == 3


def test_cifar_is_cropped_and_flipped_by_default():
    assert Cifar10().augment == Cifar100().augment == Augment(crop_padding=4, flip=True)
    assert Digits().augment == ImageFolder().augment == Augment()


def test_digits_are_split_class_by_class():
    train, test = Digits().load()
    assert len(train) + len(test) == 1797
    assert train.classes == test.classes == tuple("0123456789")
    assert (train.in_channels, train.image_size) == (1, (8, 8))
    totals = torch.tensor([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])  # of scikit-learn
    in_test = test.labels.bincount()
    assert torch.equal(train.labels.bincount() + in_test, totals)
    assert torch.equal(in_test, (0.2 * totals).round().long())


def test_digits_are_those_of_scikit_learn_in_bytes():
    from sklearn.datasets import load_digits

    digits = load_digits()
    train, test = Digits(test_fraction=0.3, seed=5).load()
    labels = torch.from_numpy(digits.target)
    first, second = stratified_split(labels, 0.3, 5)
    for part, positions in ((test, first), (train, second)):
        expected = np.rint(digits.images[positions.numpy()] * 255 / 16).astype(np.uint8)
        assert torch.equal(part.images[:, 0], torch.from_numpy(expected))
        assert torch.equal(part.labels, labels[positions])
    assert int(train.images.max()) == 255


@pytest.mark.parametrize(("dataset", "name"), [(Cifar10, "CIFAR-10"), (Cifar100, "CIFAR-100")])
def test_absent_cifar_says_what_to_do(dataset: type[Cifar10], name: str, tmp_path: Path):
    message = rf"{name} is not in dataset\.root=.*nowhere.*dataset\.download=true.*dataset\.root=PA"
    with pytest.raises(ValueError, match=message):
        dataset(root=str(tmp_path / "nowhere")).load()


def test_failed_download_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    refuse = Mock(side_effect=OSError("no route to host"))
    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", refuse)
    with pytest.raises(ValueError, match=r"could not fetch CIFAR-10 into .*: no route to host"):
        Cifar10(root=str(tmp_path), download=True).load()


def write_cifar(folder: Path, batches: list[str], meta: str, label_key: str, names_key: str):
    """torchvision's files on disk, 4 images each; returns the pixels and labels of each."""
    folder.mkdir()
    rng, written = np.random.default_rng(0), {}
    for name in batches:
        pixels = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
        labels = rng.integers(0, 3, 4).tolist()
        (folder / name).write_bytes(pickle.dumps({"data": pixels, label_key: labels}))
        written[name] = (torch.from_numpy(pixels).view(4, 3, 32, 32), torch.tensor(labels))
    (folder / meta).write_bytes(pickle.dumps({names_key: ["cat", "dog", "emu"]}))
    return written


IN_FIVE = [f"data_batch_{i}" for i in range(1, 6)]
CIFAR10 = ("cifar-10-batches-py", IN_FIVE, "test_batch", "batches.meta", "labels", "label_names")
CIFAR100 = ("cifar-100-python", ["train"], "test", "meta", "fine_labels", "fine_label_names")


@pytest.mark.parametrize(("dataset", "files"), [(Cifar10, CIFAR10), (Cifar100, CIFAR100)])
def test_cifar_is_read_as_it_was_written(dataset, files, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", Mock(return_value=True))
    folder, train, test, meta, *keys = files
    written = write_cifar(tmp_path / folder, [*train, test], meta, *keys)
    loaded = dataset(root=str(tmp_path)).load()
    for part, names in zip(loaded, (train, [test]), strict=True):
        assert torch.equal(part.images, torch.cat([written[name][0] for name in names]))
        assert torch.equal(part.labels, torch.cat([written[name][1] for name in names]))
        assert part.classes == ("cat", "dog", "emu")
        assert part.images.is_contiguous()


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
    in_both_parts(tree, "dog/deep.png", np.full((5, 5), 0x40FF, dtype=np.uint16))
    train, _ = ImageFolder(root=str(tree), image_size=4).load()
    assert (train.images[3] == 0x40).all()  # "deep" comes before "grey"


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
    (record,) = caplog.records
    message = record.getMessage()
    assert record.name == "darts_gdas.runtime.datasets"
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


@pytest.mark.parametrize("part", ["train", "test"])
def test_folder_needs_both_parts(tree: Path, part: str):
    (tree / part).rename(tree / "elsewhere")
    with pytest.raises(ValueError, match=rf"must hold {part}/<class>/, but there is no .*/{part}'"):
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
    with pytest.raises(ValueError, match=r"8 images .* 0\.024 GB .*max_gigabytes=0\.02;"):
        ImageFolder(root=str(tree), image_size=1000, max_gigabytes=0.02).load()


@pytest.mark.parametrize(
    ("dataset", "setting", "message"),
    [
        (Digits, {"test_fraction": 0.0}, "test_fraction must lie between 0 and 1, got 0.0"),
        (Digits, {"test_fraction": 1.0}, "test_fraction must lie between 0 and 1, got 1.0"),
        (ImageFolder, {"image_size": 0}, "image_size must be at least 1 pixel, got 0"),
        (ImageFolder, {"channels": 2}, "channels must be 3 (colour) or 1 (grey), got 2"),
        (ImageFolder, {"max_gigabytes": 0.0}, "max_gigabytes must be positive, got 0.0"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_at_once(dataset, setting: dict, message: str):
    with pytest.raises(ValueError, match=re.escape(f"dataset.{message}")):
        dataset(**setting)
