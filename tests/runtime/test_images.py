import pytest
import torch
from torch.testing import assert_close

from darts_gdas.runtime.images import ImageSet, checked_parts


def image_set(num_images: int = 10, channels: int = 3) -> ImageSet:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (num_images, channels, 4, 6), generator=rng, dtype=torch.uint8)
    labels = torch.randint(2, (num_images,), generator=rng)
    return ImageSet(images, labels, ("cat", "dog", "emu"))


def test_says_what_it_holds():
    images = image_set()
    assert (len(images), images.in_channels, images.image_size) == (10, 3, (4, 6))
    assert images.num_classes == 3  # though no image shows an emu


def test_select_keeps_pairs_and_order():
    images = image_set()
    chosen = images.select(torch.tensor([7, 2]))
    assert torch.equal(chosen.images, torch.stack([images.images[7], images.images[2]]))
    assert torch.equal(chosen.labels, torch.stack([images.labels[7], images.labels[2]]))
    assert chosen.classes == images.classes


def test_to_moves_images_and_labels():
    moved = image_set().to("meta")
    assert moved.images.is_meta and moved.labels.is_meta


@pytest.mark.parametrize("num_images", [10, 5000])  # the second one is counted in two chunks
def test_statistics_are_those_of_the_pixels(num_images: int):
    images = image_set(num_images)
    pixels = images.images.double() / 255
    mean, std = images.statistics()
    assert mean.dtype == std.dtype == torch.float32
    assert_close(mean, pixels.mean((0, 2, 3)).float())
    assert_close(std, pixels.std((0, 2, 3), correction=0).float())


def test_deviation_of_a_constant_channel_is_one_grey_level():
    images = ImageSet(torch.full((2, 1, 3, 3), 51, dtype=torch.uint8), torch.tensor([0, 0]), ("a",))
    mean, std = images.statistics()
    assert_close(mean, torch.tensor([0.2]))
    assert_close(std, torch.tensor([1 / 255]))


def test_statistics_of_nothing_are_refused():
    with pytest.raises(ValueError, match="statistics need at least one image"):
        image_set().select(torch.tensor([], dtype=torch.long)).statistics()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 3, 3), torch.zeros(2).long(), "images must be uint8"),
        (torch.zeros(2, 3, 3).byte(), torch.zeros(2).long(), "images must be uint8 of shape"),
        (torch.zeros(2, 1, 3, 3).byte(), torch.zeros(3).long(), r"int64 of shape \[2\]"),
        (torch.zeros(2, 1, 3, 3).byte(), torch.zeros(2).int(), "labels must be int64"),
        (
            torch.zeros(2, 1, 3, 3).byte(),
            torch.zeros(2, device="meta").long(),
            "on one device, got cpu and meta",
        ),
    ],
)
def test_refuses_other_tensors(images: torch.Tensor, labels: torch.Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        ImageSet(images, labels, ("a",))


def test_the_digest_tells_pixels_labels_and_classes_apart():
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    labels = torch.tensor([0, 1])
    base = ImageSet(images, labels, ("a", "b"))
    assert ImageSet(images.clone(), labels.clone(), ("a", "b")).digest() == base.digest()
    changed = images.clone()
    changed[1, 2, 3, 3] += 1
    others = [
        ImageSet(changed, labels, ("a", "b")),
        ImageSet(images, labels.flip(0), ("a", "b")),
        ImageSet(images, labels, ("a", "c")),
        ImageSet(images.view(2, 1, 12, 4), labels, ("a", "b")),
    ]
    assert len({s.digest() for s in (base, *others)}) == 5


def part(*labels: int, size: int = 4, classes: tuple[str, ...] = ("a", "b")) -> ImageSet:
    images = torch.zeros(len(labels), 1, size, size, dtype=torch.uint8)
    return ImageSet(images, torch.tensor(labels, dtype=torch.int64), classes)


def test_parts_that_go_together_are_left_as_they_are():
    parts = part(0, 1, 1), part(1)  # a test set may lack a class
    assert checked_parts(parts) is parts


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((part(0, 1), part(0, size=5)), "must have the same channels, size and classes, got"),
        ((part(0, 1), part(0, classes=("b", "a"))), "must have the same channels, size and cl"),
        ((part(0, 2), part(0)), r"labels must lie in 0\.\.1, got \[0, 2\]"),
        ((part(0, 1), part(-1)), r"labels must lie in 0\.\.1, got \[-1\]"),
        ((part(0, 1), part()), r"labels must lie in 0\.\.1, got \[\]"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        checked_parts(parts)
