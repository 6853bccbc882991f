"""MedMNIST's files: small ones of the same names and arrays, read by its own package."""

import logging
from pathlib import Path

import numpy as np
import pytest

from darts_gdas.runtime.formats.medmnist import MedMnist
from darts_gdas.runtime.look import loaded

pytestmark = [pytest.mark.formats, pytest.mark.filterwarnings("ignore")]  # it leaves files open
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # the package makes a folder there
    pytest.importorskip("medmnist", reason="needs medmnist: pip install 'darts-gdas[datasets]'")


def written(path: Path, *shape: int, classes: int) -> dict[str, np.ndarray]:
    arrays = {}
    for part, count in (("train", 20), ("val", 10), ("test", 10)):
        arrays[f"{part}_images"] = RNG.integers(0, 256, (count, *shape), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count)[:, None] % classes).astype(np.uint8)
    np.savez(path, **arrays)
    return arrays


@pytest.mark.parametrize(
    ("name", "file", "shape", "size", "classes"),
    [
        ("PathMNIST", "pathmnist.npz", (28, 28, 3), 28, 9),
        ("bloodmnist", "bloodmnist_64.npz", (64, 64, 3), 64, 8),
        ("OrganAMNIST", "organamnist.npz", (28, 28), 28, 11),
        ("BreastMNIST", "breastmnist.npz", (28, 28), 28, 2),
    ],
)
def test_a_set_is_read_as_it_was_written(name, file, shape, size, classes, tmp_path: Path):
    arrays = written(tmp_path / file, *shape, classes=classes)
    train, test = loaded(MedMnist(name=name, root=str(tmp_path), size=size))
    for part, of in ((train, "train"), (test, "test")):
        pixels = arrays[f"{of}_images"].reshape(len(part), size, size, -1)
        assert np.array_equal(part.images.permute(0, 2, 3, 1).numpy(), pixels)
        assert np.array_equal(part.labels.numpy(), arrays[f"{of}_labels"][:, 0])
        assert part.num_classes == classes and all(part.classes)
    both, _ = MedMnist(name=name, root=str(tmp_path), size=size, train_split="train+val").load()
    assert len(both) == 30


def test_grades_are_learnt_as_classes_which_is_said(tmp_path: Path, caplog):
    written(tmp_path / "retinamnist.npz", 28, 28, 3, classes=5)
    with caplog.at_level(logging.WARNING):
        train, _ = MedMnist(name="RetinaMNIST", root=str(tmp_path)).load()
    assert train.num_classes == 5 and "grades are learnt as classes" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "ChestMNIST"}, r"PathMNIST, .*got 'ChestMNIST' \(several labels for a picture\)"),
        ({"name": "OrganMNIST3D"}, r"must be one of PathMNIST, .*, got 'OrganMNIST3D'$"),
        ({"name": "Path"}, r"must be one of PathMNIST, .*, got 'Path'$"),
        (
            {"name": "PathMNIST", "size": 32},
            r"dataset.size must be of \[28, 64, 128, 224\], got 32",
        ),
    ],
)
def test_sets_that_cannot_be_are_answered_with_those_that_can(settings, message, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        MedMnist(**settings, root=str(tmp_path)).load()


def test_missing_and_damaged_files_are_one_line(tmp_path: Path):
    chosen = MedMnist(name="PathMNIST", root=str(tmp_path))
    with pytest.raises(
        ValueError, match=r"^PathMNIST is not in dataset.root=.*download=true to fetch"
    ):
        chosen.load()
    path = tmp_path / "pathmnist.npz"
    written(path, 28, 28, 3, classes=9)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"PathMNIST.* cannot be read \(BadZipFile"):
        chosen.load()
    written(tmp_path / "pathmnist_64.npz", 28, 28, 3, classes=9)
    with pytest.raises(ValueError, match=r"train must hold images of 64x64 .*, got 28x28"):
        MedMnist(name="PathMNIST", root=str(tmp_path), size=64).load()
