"""From numbers to bytes: where the channels are, and what becomes black and white."""

import re

import numpy as np
import pytest

from darts_gdas.runtime.formats.arrays import Layout, Scale, with_channels_first


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 28, 28), (5, 1, 28, 28)),
        ((5, 32, 32, 3), (5, 3, 32, 32)),
        ((5, 3, 32, 32), (5, 3, 32, 32)),
        ((5, 20, 30, 4), (5, 4, 20, 30)),
        ((5, 4, 20, 30), (5, 4, 20, 30)),
        ((5, 8, 8, 13), (5, 13, 8, 8)),  # more channels than pixels, but square
        ((5, 13, 8, 8), (5, 13, 8, 8)),
    ],
    ids=str,
)
def test_the_channels_are_found(shape: tuple[int, ...], expected: tuple[int, ...]):
    images = np.arange(np.prod(shape)).reshape(shape)
    found = with_channels_first(images, Layout.auto, "these")
    assert found.shape == expected
    axes = "ijk" if len(shape) == 3 else "ijkl" if found.strides == images.strides else "iklj"
    assert np.array_equal(np.einsum(f"{axes}->{axes}", images).ravel(), images.ravel())
    assert sorted(found.ravel()) == sorted(images.ravel())


def test_where_the_shape_does_not_tell_it_is_asked_for():
    cube = np.arange(3 * 8 * 8 * 8).reshape(3, 8, 8, 8)
    with pytest.raises(
        ValueError, match=r"\[3, 8, 8, 8\]: dataset\.layout must say .*8 channels of 8x8"
    ):
        with_channels_first(cube, Layout.auto, "these")
    assert np.array_equal(with_channels_first(cube, Layout.channels_first, ""), cube)
    last = with_channels_first(cube, Layout.channels_last, "")
    assert last[1, 2, 3, 4] == cube[1, 3, 4, 2]


@pytest.mark.parametrize(
    ("shape", "first", "last"),
    [
        ((40, 8, 16, 13), "8 channels of 16x13", "13 channels of 8x16"),
        ((5, 2, 20, 30), "2 channels of 20x30", "30 channels of 2x20"),
        ((5, 3, 32, 4), "3 channels of 32x4", "4 channels of 3x32"),
        ((5, 4, 4, 13), "4 channels of 4x13", "13 channels of 4x4"),  # colour, or square
    ],
    ids=str,
)
def test_where_both_orders_are_usual_or_neither_both_are_told(shape, first: str, last: str):
    told = rf"these of shape .*: dataset\.layout must .*{first} pixels\) or .*{last} pixels\)$"
    with pytest.raises(ValueError, match=told):
        with_channels_first(np.zeros(shape), Layout.auto, "these")


@pytest.mark.parametrize(
    "shape", [(4,), (4, 64), (4, 2, 3, 8, 8), (0, 8, 8), (4, 8, 8, 0)], ids=str
)
def test_what_is_no_image_is_told(shape: tuple[int, ...]):
    with pytest.raises(
        ValueError, match=r"must be \[images, height, width\].*" + re.escape(f"{[*shape]}")
    ):
        with_channels_first(np.zeros(shape), Layout.auto, "these")


def test_bytes_stay_what_they_are():
    images = np.arange(48, dtype=np.uint8).reshape(3, 1, 4, 4)
    scale = Scale.of([images], None, "these")
    assert np.array_equal(scale.bytes(images, "").numpy(), images)
    assert scale.words() == ("none: the bytes of the arrays",)


def test_whole_numbers_are_scaled_by_their_ends_in_training_channel_by_channel():
    """By hand: 100 to 355 is a shift, 0 to 2550 a tenth; beyond the ends is cut off."""
    train = np.zeros((2, 2, 1, 2), dtype=np.uint16)
    train[0, 0, 0], train[1, 0, 0] = (100, 101), (355, 300)
    train[0, 1, 0], train[1, 1, 0] = (0, 2550), (14, 16)
    scale = Scale.of([train[:1], train[1:]], None, "these")
    assert scale.ends == ((100.0, 355.0), (0.0, 2550.0))
    assert scale.bytes(train, "").tolist() == [[[[0, 1]], [[0, 255]]], [[[255, 200]], [[1, 2]]]]
    test = np.array([[[[0, 400]], [[5000, 1275]]]], dtype=">u2")
    assert scale.bytes(test, "").tolist() == [[[[0, 255]], [[255, 128]]]]  # 127.5 to even
    assert scale.words() == ("values of each channel become 0 to 255: 100 to 355, 0 to 2550",)


def test_floats_have_a_declared_range():
    images = np.array([0.0, 0.5, 1.0, 2.0]).reshape(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"these holds floats of unknown range; .*such as \[0,1\]"):
        Scale.of([images], None, "these")
    scale = Scale.of([images], [0, 1], "these")
    assert scale.bytes(images, "").flatten().tolist() == [0, 128, 255, 255]
    assert scale.words() == ("values from 0 to 1 become 0 to 255",)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(value: float):
    images = np.zeros((3, 1, 2, 2), dtype=np.float32)
    images[2, 0, 1, 0] = value
    with pytest.raises(ValueError, match=r"these must be finite, but image 2 \(from 0\) is not"):
        Scale.of([images], [0, 1], "these").bytes(images, "these")


def test_parts_that_differ_are_told():
    grey, colour = np.zeros((1, 1, 2, 2), np.uint16), np.zeros((1, 3, 2, 2), np.uint16)
    with pytest.raises(ValueError, match="same channels, got 1 of uint16, 3 of uint16"):
        Scale.of([grey, colour], None, "these")
    with pytest.raises(ValueError, match=r"must be numbers of one type with .* got 1 of <U1"):
        Scale.of([np.full((1, 1, 2, 2), "a")], None, "these")
    with pytest.raises(
        ValueError, match=r"must be like the images to train on, .* got 3 channels of "
    ):
        Scale.of([grey], None, "").bytes(colour, "these")
    with pytest.raises(ValueError, match="to train on, which are uint8, got 1 channels of uint16"):
        Scale.of([grey.astype(np.uint8)], None, "").bytes(grey, "these")
    with pytest.raises(ValueError, match=r"dataset\.value_range has no effect: these holds bytes"):
        Scale.of([grey.astype(np.uint8)], [0, 1], "these")


def test_a_constant_channel_can_be_scaled():
    flat = np.full((2, 1, 2, 2), 7, dtype=np.int64)
    scale = Scale.of([flat], None, "these")
    assert scale.ends == ((7.0, 8.0),) and scale.bytes(flat, "").max() == 0
