import pickle
import re
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torchvision.datasets
from omegaconf import OmegaConf

from darts_gdas.runtime.augment import Augment
from darts_gdas.runtime.datasets import Cifar10, Cifar100, Dataset, Digits, ImageFolder
from darts_gdas.runtime.split import stratified_split

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


def test_digits_are_the_same_where_their_file_is_not_found(monkeypatch: pytest.MonkeyPatch):
    table = [part.images for part in Digits().load()]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert all(map(torch.equal, table, (part.images for part in Digits().load())))


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


@pytest.mark.parametrize(
    ("dataset", "setting", "message"),
    [
        (Digits, {"test_fraction": 0.0}, "test_fraction must lie between 0 and 1, got 0.0"),
        (Digits, {"test_fraction": 1.0}, "test_fraction must lie between 0 and 1, got 1.0"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_at_once(dataset, setting: dict, message: str):
    with pytest.raises(ValueError, match=re.escape(f"dataset.{message}")):
        dataset(**setting)
