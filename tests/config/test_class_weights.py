"""Weights of the classes: n / (k n_c), or as they are given, with a mean of 1 over the images."""

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.config.class_weights import check_class_weights, class_weights
from darts_gdas.runtime.images import ImageSet

NAMES = ("a", "b", "c", "d")


def images(*counts: int) -> ImageSet:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    pixels = torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8)
    return ImageSet(pixels, labels, NAMES[: len(counts)])


def test_balanced_weights_are_those_of_the_closed_form():
    """n / (k n_c): 12 images of 3 classes that have any."""
    found = class_weights("balanced", images(6, 4, 2, 0), balanced_batches=False)
    assert found is not None
    assert_close(found, torch.tensor([12 / (3 * 6), 12 / (3 * 4), 12 / (3 * 2), 0.0]))


def test_given_weights_have_a_mean_of_one_over_the_images():
    found = class_weights([1, 3], images(6, 2), balanced_batches=False)
    assert found is not None
    assert_close(found, torch.tensor([1.0, 3.0]) / ((6 * 1 + 2 * 3) / 8))
    shown_alike = class_weights([1, 3], images(6, 2), balanced_batches=True)
    assert shown_alike is not None
    assert_close(shown_alike, torch.tensor([0.5, 1.5]))
    equal = class_weights([7.0, 7.0], images(6, 2), balanced_batches=False)
    assert equal is not None
    assert_close(equal, torch.ones(2))
    assert class_weights("none", images(6, 2), balanced_batches=False) is None


@pytest.mark.parametrize(
    "value", ["balancd", 2, True, [], [1, -1], [0, 0.0], ["a", 1], [float("nan"), 1], {"a": 1}]
)
def test_what_is_neither_a_word_nor_numbers_is_refused(value: object):
    with pytest.raises(ValueError, match="class_weights must be none, balanced, or a list"):
        check_class_weights(value, balanced_batches=False)


def test_nothing_is_corrected_twice():
    with pytest.raises(ValueError, match="beside balanced_batches=true would correct twice"):
        check_class_weights("balanced", balanced_batches=True)
    check_class_weights([1, 2], balanced_batches=True)


def test_a_list_must_fit_the_classes():
    with pytest.raises(ValueError, match=r"for each of 2 classes \(a, b\), got 3"):
        class_weights([1, 2, 3], images(2, 2), balanced_batches=False)
    with pytest.raises(ValueError, match="every class that has images a weight of 0"):
        class_weights([0, 2], images(2, 0), balanced_batches=False)
