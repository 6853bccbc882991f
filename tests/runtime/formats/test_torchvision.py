"""Torchvision's sets by name: small files of their real formats, read by their own classes."""

import inspect
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets
from PIL import Image
from torchvision.datasets import SVHN, ImageFolder

from darts_gdas.runtime.folder import Storage
from darts_gdas.runtime.formats.kinds import KINDS
from darts_gdas.runtime.formats.torchvision import Torchvision, _arguments
from darts_gdas.runtime.look import loaded

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_set_that_is_known_takes_what_it_is_called_with(name: str):
    kind, known = KINDS[name], _arguments(getattr(torchvision.datasets, name))
    asked = {*kind.defaults, *([kind.argument] if kind.argument else [])}
    asked |= {"loader"} if kind.is_in_files else set()
    assert asked <= known
    if kind.is_in_files:  # and a path is all that its loader is given
        assert "self.loader(" in inspect.getsource(getattr(torchvision.datasets, name).__getitem__)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_parts_are_those_that_the_set_has(name: str, tmp_path: Path):
    """A part that is not known is told by torchvision before it looks for files."""
    kind, factory = KINDS[name], getattr(torchvision.datasets, name)
    if kind.argument != "split":
        return
    if "verify_str_arg" not in inspect.getsource(factory.__init__):
        return  # it does not look
    for part in kind.splits:
        with pytest.raises(Exception) as error:
            factory(str(tmp_path), split=part)
        assert "Unknown value" not in str(error.value)


def test_an_unknown_name_is_answered_with_those_that_exist():
    with pytest.raises(
        ValueError, match=r"must be one of .*CIFAR10, .*SVHN, .* got 'VOCDetection'"
    ):
        Torchvision(name="VOCDetection").load()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *(
            (
                name,
                "is not in dataset.root={}, or damaged; pass dataset.download=true to fetch it, or "
                "dataset.root=PATH if it is elsewhere",
            )
            for name in ("SVHN", "MNIST", "Flowers102", "EuroSAT", "Places365", "USPS")
        ),
        (
            "ImageNet",
            "in dataset.root={} cannot be read (RuntimeError: The archive ILSVRC2012_devkit"
            "_t12.tar.gz is not present in the root directory or is corrupted. You need to "
            "download it externally and place it in {})",
        ),
    ],
)
def test_a_set_that_is_not_there_is_one_line_that_says_each_thing_once(
    name, told, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        Torchvision(name=name, root="d").load()
    assert str(error.value) == f"{name} {told.format(repr('d'), 'd.')}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "DTD", "options": {"part": 1}}, r"options of DTD may have partition, got 'part'"),
        (
            {"name": "SVHN", "options": {"split": "x"}},
            r"options of SVHN may have nothing, got 'spl",
        ),
        ({"name": "EMNIST", "options": {"train": 1}}, r"EMNIST may have split, got 'train'"),
        ({"name": "ImageNet", "download": True}, r"torchvision cannot fetch ImageNet; put its fi"),
        ({"name": "SVHN", "workers": 2}, r"dataset.workers is for sets of files, and has no eff"),
    ],
)
def test_settings_without_a_meaning_are_told(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Torchvision(**settings).load()


@pytest.fixture
def svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """SVHN's files, [height, width, channels, images] and labels 1 to 10, as MATLAB writes them."""
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    written = {}
    for part, count in (("train", 20), ("test", 10), ("extra", 10)):
        pixels = RNG.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        digits = np.arange(count)[:, None] % 10 + 1
        scipy.io.savemat(tmp_path / f"{part}_32x32.mat", {"X": pixels, "y": digits})
        written[part] = pixels.transpose(3, 2, 0, 1), digits[:, 0] % 10
    return written


def test_svhn_is_read_as_it_was_written(svhn, tmp_path: Path):
    for part, name in zip(
        loaded(Torchvision(name="SVHN", root=str(tmp_path))), ("train", "test"), strict=True
    ):
        assert np.array_equal(part.images.numpy(), svhn[name][0])
        assert np.array_equal(part.labels.numpy(), svhn[name][1])
        assert part.classes == tuple("0123456789")
    train, _ = Torchvision(name="SVHN", root=str(tmp_path), train_split="train+extra").load()
    assert np.array_equal(train.images[20:].numpy(), svhn["extra"][0]) and len(train) == 30


def test_pictures_in_memory_are_scaled_where_a_size_is_given(svhn, tmp_path: Path):
    small = Torchvision(name="SVHN", root=str(tmp_path), image_size=16, channels=1)
    train, test = loaded(small)
    assert train.shape == test.shape == (1, 16, 16)
    picture = Image.fromarray(svhn["train"][0][3].transpose(1, 2, 0)).convert("L")
    expected = np.asarray(picture.resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(train.images[3, 0].numpy(), expected)


def test_a_damaged_file_is_one_line(svhn, tmp_path: Path):
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(
        ValueError, match=r"^SVHN in dataset.root=.* cannot be read \(\w+: "
    ) as error:
        Torchvision(name="SVHN", root=str(tmp_path)).load()
    assert "\n" not in str(error.value)


def idx(values: np.ndarray) -> bytes:
    """MNIST's own format: a magic number, the axes, and bytes."""
    return (
        struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
    )


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_the_mnist_family_is_read_as_it_was_written(name: str, tmp_path: Path):
    folder = tmp_path / name / "raw"
    folder.mkdir(parents=True)
    written = {}
    for part, count in (("train", 20), ("t10k", 10)):
        written[part] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(written[part]))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    for part, pixels in zip(
        loaded(Torchvision(name=name, root=str(tmp_path))), written.values(), strict=True
    ):
        assert np.array_equal(part.images[:, 0].numpy(), pixels) and part.num_classes == 10
        assert part.labels[:10].tolist() == [*range(10)]


@pytest.fixture
def imagenette(tmp_path: Path) -> Path:
    """Two of the classes of Imagenette at 160 pixels, pictures of several sizes."""
    for part, count in (("train", 6), ("val", 3)):
        for wnid in torchvision.datasets.Imagenette._WNID_TO_CLASS:
            folder = tmp_path / "imagenette2-160" / part / wnid
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = RNG.integers(0, 256, (20 + i, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.JPEG")
    return tmp_path


def test_a_set_of_files_is_what_its_folder_is_in_memory_and_as_a_stream(imagenette: Path):
    set_ = {"name": "Imagenette", "root": str(imagenette), "options": {"size": "160px"}}
    train, test = loaded(Torchvision(**set_, image_size=16))
    assert train.classes[0] == "tench, Tinca tinca" and train.num_classes == 10
    assert (len(train), len(test)) == (60, 30)
    folder = ImageFolder(str(imagenette / "imagenette2-160" / "train"))
    assert train.labels.tolist() == folder.targets
    stream, _ = Torchvision(**set_, image_size=16, storage=Storage.stream, workers=0).load()
    assert stream.pixels(torch.arange(60)).equal(train.images)
    assert stream.labels.equal(train.labels)
    with pytest.raises(
        ValueError, match=r"pictures of Imagenette have 6 sizes .*image_size=PIXELS"
    ):
        Torchvision(**set_).load()


def test_a_set_without_parts_is_split(tmp_path: Path):
    for name in ("Forest", "River"):
        folder = tmp_path / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for i in range(10):
            Image.fromarray(RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(
                folder / f"{i}.png"
            )
    train, test = loaded(Torchvision(name="EuroSAT", root=str(tmp_path), test_fraction=0.3))
    assert train.classes == ("Forest", "River") and train.shape == (3, 16, 16)
    assert (len(train), len(test)) == (14, 6)


def test_files_come_in_the_order_of_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """SUN397 takes them as the file system has them, which is another order on another machine."""
    paths = [f"{name[0]}/{name}/sun_{i}.jpg" for name in ("abbey", "zoo") for i in range(5)]
    (tmp_path / "SUN397").mkdir()
    (tmp_path / "SUN397" / "ClassName.txt").write_text("/a/abbey\n/z/zoo\n")
    for path in paths:
        picture(tmp_path / "SUN397" / path)
    found, real = [], Path.rglob
    for turn in (sorted, lambda files: sorted(files, reverse=True)):
        monkeypatch.setattr(Path, "rglob", lambda self, text, turn=turn: turn(real(self, text)))
        found.append(Torchvision(name="SUN397", root=str(tmp_path), test_fraction=0.2).load())
    assert [part.digest() for part in found[0]] == [part.digest() for part in found[1]]
    assert found[0][0].classes == ("abbey", "zoo")
    assert [part.labels.bincount().tolist() for part in found[0]] == [[4, 4], [1, 1]]


def test_parts_of_files_are_joined(tmp_path: Path):
    root = tmp_path / "dtd" / "dtd"
    (root / "labels").mkdir(parents=True)
    for part, numbers in (("train", (0, 1)), ("val", (2, 3)), ("test", (4, 5))):
        names = [f"{name}/{i}.jpg" for name in ("banded", "dotted") for i in numbers]
        (root / "labels" / f"{part}1.txt").write_text("\n".join(names) + "\n")
        for name in names:
            picture(root / "images" / name)
    train, test = Torchvision(name="DTD", root=f"{tmp_path}/", train_split="train+val").load()
    names = [train.file_of(i) for i in range(len(train))]
    expected = [f"dtd/dtd/images/{name}/{i}.jpg" for name in ("banded", "dotted") for i in range(4)]
    assert names == expected and train.labels.tolist() == [0] * 4 + [1] * 4
    assert len(test) == 4 and train.shape == (3, 12, 16)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
