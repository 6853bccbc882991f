"""ImageNet16-120, in files made as the benchmark's are."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from darts_gdas.runtime.formats.imagenet16 import FILES, ImageNet16, unpickled
from darts_gdas.runtime.look import loaded

NAMES = (*FILES["train"], *FILES["val"])


@pytest.fixture
def written(tmp_path: Path) -> dict[str, dict]:
    """Six pictures in each file, of the classes 1 to 6; of all of them, four are asked for."""
    rng, batches = np.random.default_rng(0), {}
    for name in NAMES:
        pixels = rng.integers(0, 256, (6, 3 * 16 * 16), dtype=np.uint8)
        batches[name] = {"data": pixels, "labels": rng.permutation(6) + 1, "mean": pixels.mean(0)}
        write(tmp_path / name, batches[name])
    return batches


def write(path: Path, batch: object, protocol: int = 2) -> None:
    path.write_bytes(pickle.dumps(batch, protocol=protocol))


@pytest.mark.parametrize("as_list", [True, False])
def test_the_first_classes_are_kept_and_counted_from_zero(as_list, written, tmp_path: Path):
    if as_list:
        for name, batch in written.items():
            write(tmp_path / name, batch | {"labels": batch["labels"].tolist()}, protocol=4)
    train, test = loaded(ImageNet16(root=str(tmp_path), num_classes=4))
    assert (len(train), len(test)) == (40, 4) and train.shape == (3, 16, 16)
    assert train.classes == ("1", "2", "3", "4")
    names = [FILES["train"], FILES["val"]]
    for part, files in zip((train, test), names, strict=True):
        data = np.concatenate([written[name]["data"] for name in files])
        labels = np.concatenate([written[name]["labels"] for name in files])
        kept = labels <= 4
        assert np.array_equal(part.images.numpy(), data[kept].reshape(-1, 3, 16, 16))
        assert np.array_equal(part.labels.numpy(), labels[kept] - 1)


def test_it_has_120_classes_unless_told(written, tmp_path: Path):
    train, test = ImageNet16(root=str(tmp_path)).load()
    assert train.num_classes == 120 and (len(train), len(test)) == (60, 6)
    with pytest.raises(ValueError, match=r"dataset\.num_classes must be at least 2, got 1"):
        ImageNet16(num_classes=1)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"labels": [1] * 5}, r"train_data_batch_3: labels must be one number for each of the 6"),
        ({"labels": [0] * 6}, r"train_data_batch_3: labels must count from 1, got 0"),
        ({"labels": [-1] * 6}, r"train_data_batch_3: labels must count the classes from 0, got -1"),
        ({"data": np.zeros((6, 3072), np.uint8)}, r"data must be bytes \[images, 768\], .*3072"),
        ({"data": np.zeros((6, 768))}, r"data must be bytes \[images, 768\], got float64"),
    ],
)
def test_batches_that_cannot_be_right_are_one_line(batch, message, written, tmp_path: Path):
    write(tmp_path / NAMES[2], written[NAMES[2]] | batch)
    with pytest.raises(ValueError, match=message):
        ImageNet16(root=str(tmp_path)).load()


def test_missing_and_damaged_files_are_named(written, tmp_path: Path):
    path = tmp_path / NAMES[4]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="train_data_batch_5 cannot be read"):
        ImageNet16(root=str(tmp_path)).load()
    write(path, {"pixels": 1})
    with pytest.raises(ValueError, match=r"train_data_batch_5 cannot be read \(KeyError: 'data'\)"):
        ImageNet16(root=str(tmp_path)).load()
    path.unlink()
    with pytest.raises(
        ValueError, match="files of ImageNet16, but 'train_data_batch_5' is missing"
    ):
        ImageNet16(root=str(tmp_path)).load()


class Command:
    def __reduce__(self):
        return print, ("called",)


def test_a_pickle_calls_nothing_but_what_makes_arrays(written, tmp_path: Path, capsys):
    write(tmp_path / NAMES[0], Command())
    with pytest.raises(ValueError, match=r"it names __?builtin\w*\.print, which is no array"):
        ImageNet16(root=str(tmp_path)).load()
    assert not capsys.readouterr().out
    with open(tmp_path / NAMES[1], "rb") as file:
        assert np.array_equal(unpickled(file)["data"], written[NAMES[1]]["data"])
