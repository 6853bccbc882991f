import logging
from dataclasses import dataclass

import pytest
import torch

from darts_gdas.runtime.dataset import Dataset, Pair
from darts_gdas.runtime.datasets import Digits
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.look import loaded, of_halves, remarks


def noise(count: int, *, seed: int, channels: int = 3) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, 4, 4), dtype=torch.uint8, generator=rng)


def images(pixels: torch.Tensor, labels: list[int] | None = None) -> ImageSet:
    chosen = torch.arange(len(pixels)) % 2 if labels is None else torch.tensor(labels)
    return ImageSet(pixels, chosen, ("a", "b"))


GOOD = images(noise(20, seed=0))
TEST = images(noise(10, seed=1))


def test_nothing_is_said_of_pictures_as_they_should_be():
    assert remarks(GOOD, TEST) == [] == remarks(*Digits().load())


def test_constant_images_are_named():
    (told,) = remarks(images(torch.full((6, 3, 4, 4), 7, dtype=torch.uint8)), TEST)
    assert told == "all 6 training images are of one colour, level 7: they hold nothing"


def test_black_images_are_named():
    """12 bits of 16 keep 16 levels; an outlier among values of 32 bits leaves no deviation."""
    (told,) = remarks(images(noise(20, seed=2) // 16), TEST)
    assert "use levels 0 to 15 of 0 to 255" in told
    lone = torch.zeros(20, 3, 40, 40, dtype=torch.uint8)
    lone[0, 0, 0, 0] = 255
    told = remarks(images(lone), TEST)
    assert "use levels 0 to 255 of 0 to 255, with a deviation of 1.4" in told[0]  # 255 / 179
    assert told[1].startswith("channel 1, 2 ") and told[2].startswith("19 of 20 ")


def test_images_of_one_colour_each_are_counted():
    pixels = noise(20, seed=3)
    pixels[:2] = torch.tensor([10, 200, 77], dtype=torch.uint8).view(3, 1, 1)
    told = remarks(images(pixels), TEST)
    assert told[0].startswith("2 of 20 training images are of one colour each")


def test_copies_are_counted():
    pixels = torch.cat([GOOD.images, GOOD.images[:4]])
    (told,) = remarks(images(pixels), TEST)  # the copies have the labels of the others
    assert told == "4 of 24 training images are copies of others (16.7 %)"
    labels = [*GOOD.labels.tolist(), 0, 0, 0, 0]
    assert remarks(images(pixels, labels), TEST)[1] == (
        "4 training images are the same as one of another class"
    )
    (told,) = remarks(GOOD, images(torch.cat([TEST.images, GOOD.images[:2]])))
    assert told.startswith("2 of 12 test images are training images too (16.7 %)")


def test_a_class_without_images_is_named():
    (told,) = remarks(GOOD, images(TEST.images, [1] * 10))
    assert told == "there are no test images of class 'a'"


def test_a_class_that_one_half_alone_can_hold_is_named():
    classes = tuple("abcdefgh")
    weights = ImageSet(noise(3, seed=0), torch.tensor([0, 0, 1]), classes)
    arch = ImageSet(noise(8, seed=1), torch.tensor([0, 2, 3, 4, 5, 6, 7, 0]), classes)
    told = of_halves([weights, arch])
    assert told is not None and "classes 'c', 'd', 'e', 'f', 'g' and 1 more in the alphas'" in told
    assert "class 'b' in the weights' half alone" in told
    assert of_halves([weights, weights]) is None


@dataclass(kw_only=True)
class Given(Dataset):
    def load(self) -> Pair:
        return images(noise(6, seed=0) // 100), TEST


def test_remarks_are_warnings(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        train, test = loaded(Given())
    assert len(train) == 6 and test is TEST
    (message,) = caplog.messages
    assert "use levels 0 to 2" in message
