"""Arrays in `.npz` and `.npy` files, by the names that people give them."""

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from darts_gdas.runtime.formats.npz import Npz
from darts_gdas.runtime.look import loaded

RNG = np.random.default_rng(0)


def images(count: int, *shape: int, high: int = 256, kind: type = np.uint8) -> np.ndarray:
    return RNG.integers(0, high, (count, *shape)).astype(kind)


def labels(count: int) -> np.ndarray:
    return np.arange(count) % 3


def saved(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize(
    ("of_images", "of_labels"),
    [("{}_images", "{}_labels"), ("x_{}", "y_{}"), ("X_{}", "y_{}"), ("{}_data", "{}_labels")],
)
def test_arrays_are_found_by_the_names_that_people_give_them(of_images, of_labels, tmp_path: Path):
    train, test = images(9, 8, 8), images(6, 8, 8)
    arrays = {of_images.format("train"): train, of_labels.format("train"): labels(9)}
    arrays |= {of_images.format("test"): test, of_labels.format("test"): labels(6)[:, None]}
    found = loaded(Npz(root=saved(tmp_path / "a.npz", **arrays)))
    for part, pixels in zip(found, (train, test), strict=True):
        assert np.array_equal(part.images[:, 0].numpy(), pixels)
        assert part.labels.tolist() == labels(len(pixels)).tolist()
        assert part.classes == ("0", "1", "2")


def test_a_folder_of_single_arrays_is_the_same_as_one_file(tmp_path: Path):
    arrays = {"train_images": images(9, 8, 8, 4), "train_labels": labels(9)}
    arrays |= {"val_images": images(6, 8, 8, 4), "val_labels": labels(6)}
    for name, values in arrays.items():
        np.save(tmp_path / name, values)
    one = Npz(root=saved(tmp_path / "all.npz", **arrays)).load()
    several = Npz(root=str(tmp_path)).load()
    assert [a.digest() for a in one] == [b.digest() for b in several]
    assert one[0].shape == (4, 8, 8)


def test_one_part_is_split(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = saved(tmp_path / "a.npz", images=images(30, 8, 8), labels=labels(30))
    train, test = Npz(root=root, test_fraction=0.2).load()
    assert train.labels.bincount().tolist() == [8, 8, 8]
    assert test.labels.bincount().tolist() == [2, 2, 2]


def test_values_beyond_bytes_are_scaled_by_what_is_trained_on(tmp_path: Path, caplog):
    arrays = {"x_train": images(9, 8, 8, 13, high=4000, kind=np.uint16), "y_train": labels(9)}
    arrays |= {"x_val": images(6, 8, 8, 13, high=9000, kind=np.uint16), "y_val": labels(6)}
    arrays |= {"x_test": images(6, 8, 8, 13, high=9000, kind=np.uint16), "y_test": labels(6)}
    root = saved(tmp_path / "a.npz", **arrays)
    with caplog.at_level(logging.WARNING):
        train, test = Npz(root=root).load()
    assert "values of each channel become 0 to 255" in caplog.text
    assert train.shape == test.shape == (13, 8, 8)
    for part, name in ((train, "x_train"), (test, "x_test")):
        trained = arrays["x_train"].astype(np.float64)
        low, high = trained.min((0, 1, 2)), trained.max((0, 1, 2))
        expected = (255 * (arrays[name] - low) / (high - low)).clip(0, 255).round()
        assert np.array_equal(part.images.permute(0, 2, 3, 1).numpy(), expected)
    train, _ = Npz(root=root, train_split="train+val").load()
    ends = np.concatenate([arrays["x_train"], arrays["x_val"]]).max((0, 1, 2))
    assert int((train.images.amax((0, 2, 3)) == 255).sum()) == len(ends) == 13
    train, _ = Npz(root=root, value_range=[0, 65535]).load()
    assert int(train.images.max()) == round(255 * int(arrays["x_train"].max()) / 65535)


@pytest.mark.parametrize(("parts", "fraction"), [(1, 1.0), (1, 0.5), (2, 0.5)])
def test_a_range_is_measured_on_what_is_trained_on_alone(parts: int, fraction: float, tmp_path):
    """Each image has one value, so that the extremes of any other would show."""
    values = np.arange(60, dtype=np.uint16)[:, None, None].repeat(8, 1).repeat(8, 2) * 1000
    arrays, settings = {"x_train": values, "y_train": labels(60)}, {}
    if parts == 2:
        arrays = {"x_train": values[:40], "y_train": labels(60)[:40]}
        arrays |= {"x_val": values[40:], "y_val": labels(60)[40:]}
        settings = {"train_split": "train+val"}
    chosen = Npz(root=saved(tmp_path / "a.npz", **arrays), **settings, fraction=fraction, seed=1)
    train, test = chosen.load()
    raw = Npz(root=chosen.root, **settings, fraction=fraction, seed=1, value_range=[0, 255e3])
    seen = raw.load()[0].images.double()  # a whole number for each image
    expected = 255 * (seen - seen.min()) / (seen.max() - seen.min())
    assert torch.equal(train.images.double(), expected.round())
    assert len(train) == round(48 * fraction) and len(test) == 12


def test_the_statistics_of_many_channels_are_theirs(tmp_path: Path):
    pixels = images(9, 8, 8, 5)
    train, _ = Npz(root=saved(tmp_path / "a.npz", x=pixels, y=labels(9)), test_fraction=0.3).load()
    mean, deviation = train.statistics()
    values = train.images.double() / 255
    torch.testing.assert_close(mean.double(), values.mean((0, 2, 3)), atol=1e-6, rtol=0)
    expected = values.std((0, 2, 3), correction=0)
    torch.testing.assert_close(deviation.double(), expected, atol=1e-6, rtol=0)


GOOD = {"x_train": images(9, 8, 8), "y_train": labels(9), "x_test": images(6, 8, 8)}
GOOD |= {"y_test": labels(6)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_train": labels(8)}, r"y_train must be one number for each of the 9 images, got sh.*8"),
        ({"y_test": labels(6) - 1}, r"y_test must count the classes from 0, got -1 for 2 of 6"),
        ({"y_test": labels(6) / 2}, r"y_test must be whole numbers, got float64"),
        ({"x_test": images(6, 8, 9)}, r"the same channels, size and classes, got .1, 8, 8"),
        ({"x_test": np.ones((6, 8, 8))}, r"x_test must be like the images to train on, .*float64"),
        ({"x_test": images(6, 8, 8, kind=np.uint16)}, r"x_test must be .* are uint8, .* of uint16"),
        ({"x_test": images(6, 8, 8, 3)}, r"the same channels, size and classes, got .1, 8, 8"),
        ({"x_train": np.ones((9, 8, 8))}, r"the images holds floats of unknown range"),
        ({"x_train": np.ones((9, 64))}, r"x_train must be \[images, height, width\].*\[9, 64\]"),
        ({"y_train": labels(9) * 9000}, "count the classes from 0; the largest of 15 is 18000"),
        ({"x_train": np.array([None] * 9)}, r"x_train cannot be read .*allow_pickle"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_right_are_one_line(changed: dict, message: str, tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, allow_pickle=True, **(GOOD | changed))
    with pytest.raises(ValueError, match=message) as error:
        loaded(Npz(root=str(path)))
    assert "\n" not in str(error.value)


def test_a_test_set_of_another_type_is_not_scaled_as_what_is_trained_on(tmp_path: Path):
    """Fractions of 1 would all become black beside whole numbers up to 4000."""
    whole = images(9, 8, 8, high=4000, kind=np.uint16)
    root = saved(tmp_path / "a.npz", **(GOOD | {"x_train": whole, "x_test": np.ones((6, 8, 8))}))
    with pytest.raises(
        ValueError, match=r"x_test must be .* are uint16, got 1 channels of float64"
    ):
        Npz(root=root).load()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "x_train y_train train_images train_labels",
            "once, got train_images, train_labels, x_train, y_train$",
        ),
        ("x_train X_train y_train", "once, got X_train, x_train, y_train$"),
        ("images data labels", "once, got data, images, labels$"),
        ("images labels x_test y_test", "once, got images, labels, x_test, y_test$"),
        ("x_train y_train y_test", "in pairs, got y_test without the other, beside x_train, y_tr"),
        ("x_train y_train x_test", "in pairs, got x_test without the other"),
        ("x_train y_train train_labels x_val", "in pairs, got train_labels, x_val without"),
        ("images labels target", "in pairs, got target without the other, beside images, labels$"),
    ],
)
def test_what_is_there_twice_or_alone_is_refused(names: str, message: str, tmp_path: Path):
    root = saved(tmp_path / "a.npz", **dict.fromkeys(names.split(), images(3, 8, 8)))
    with pytest.raises(ValueError, match=rf"^dataset.root='.*a.npz': .*{message}"):
        Npz(root=root).load()


def test_not_finite_values_are_named(tmp_path: Path):
    values = np.zeros((9, 8, 8), np.float32)
    values[4, 1, 1] = np.nan
    root = saved(tmp_path / "a.npz", **(GOOD | {"x_train": values}))
    with pytest.raises(ValueError, match=r"x_train must be finite, but image 4 \(from 0\) is not"):
        Npz(root=root, value_range=[0, 1]).load()


def test_names_that_nobody_knows_are_answered_with_those_that_are_known(tmp_path: Path):
    root = saved(tmp_path / "a.npz", pictures=images(3, 8, 8), classes=labels(3))
    with pytest.raises(ValueError, match=r"names such as train_images .*got 'pictures', 'classes'"):
        Npz(root=root).load()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="got nothing"):
        Npz(root=str(tmp_path / "empty")).load()


@pytest.mark.parametrize("kept", [0, 10, 400, 1000])
def test_a_file_that_is_cut_off_is_one_line(kept: int, tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, **GOOD)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"^dataset.root='.*a.npz' cannot be read \("):
        Npz(root=str(path)).load()


def test_a_damaged_array_is_one_line(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, **GOOD)
    content = bytearray(path.read_bytes())
    at = content.index(GOOD["x_train"].tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x_train cannot be read \(BadZipFile: Bad CRC-32"):
        Npz(root=str(path)).load()


def test_nothing_is_unpickled(tmp_path: Path):
    (tmp_path / "a.npz").write_bytes(pickle.dumps(GOOD))
    with pytest.raises(ValueError, match=r"cannot be read .*allow_pickle"):
        Npz(root=str(tmp_path / "a.npz")).load()
    np.save(tmp_path / "a.npy", GOOD["x_train"])
    with pytest.raises(ValueError, match="one array; pass the folder that holds it and its labels"):
        Npz(root=str(tmp_path / "a.npy")).load()


@pytest.mark.parametrize("values", [[1, 0], [0, 0], [1], [0, float("inf")]], ids=str)
def test_a_range_that_is_none_is_refused_at_once(values: list[float]):
    with pytest.raises(ValueError, match=r"dataset\.value_range must be two numbers"):
        Npz(value_range=values)
