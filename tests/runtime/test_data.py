import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from darts_gdas.runtime.augment import Augment, Normalize
from darts_gdas.runtime.data import BatchStream, balanced_order, derive_seed, evaluation_batches
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.images import ImageSet
from darts_gdas.tasks.weight_step import split

NORMALIZE = Normalize(torch.tensor([0.5]), torch.tensor([0.25]))
EVERYTHING = Augment(crop_padding=2, flip=True, cutout=3)


def numbered(num_images: int) -> ImageSet:
    """Grey 8x8 images whose label is their position."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (num_images, 1, 8, 8), generator=rng, dtype=torch.uint8)
    return ImageSet(images, torch.arange(num_images), tuple(map(str, range(num_images))))


def stream(num_images: int = 23, **changes) -> BatchStream:
    arguments = {
        "images": numbered(num_images),
        "batch_size": 5,
        "augment": EVERYTHING,
        "normalize": NORMALIZE,
        "seed": 0,
        "name": "w",
    }
    return BatchStream(**(arguments | changes))


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:2], other[:2], strict=True))


@given(num_images=st.integers(2, 70), batch_size=st.integers(2, 40), epoch=st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_an_epoch_is_a_permutation_in_full_batches(num_images, batch_size, epoch):
    batches = stream(num_images, batch_size=batch_size).indices(epoch)
    assert sorted(torch.cat(batches).tolist()) == list(range(num_images))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 2 <= len(batches[-1]) <= batch_size + 1
    assert (len(batches[-1]) == batch_size + 1) == (
        num_images > batch_size and num_images % batch_size == 1
    )


@pytest.mark.parametrize(
    ("num_images", "batch_size", "expected"),
    [(20, 5, 4), (21, 5, 4), (22, 5, 5), (4, 5, 1), (5, 5, 1), (6, 5, 1), (3, 2, 1)],
)
def test_batches_per_epoch_counts_a_lone_image_with_the_batch_before(
    num_images: int, batch_size: int, expected: int
):
    made = stream(num_images, batch_size=batch_size)
    assert made.batches_per_epoch == expected == len(made.indices(0))


def test_batches_of_an_epoch_show_each_image_once():
    made = stream(augment=Augment())
    for epoch in range(3):
        steps = range(epoch * made.batches_per_epoch, (epoch + 1) * made.batches_per_epoch)
        batches = [made.batch(step) for step in steps]
        labels = torch.cat([batch.labels for batch in batches])
        assert sorted(labels.tolist()) == list(range(23))
        shown = torch.cat([batch.images for batch in batches])
        assert torch.equal(shown, NORMALIZE(made.images.images[labels]))


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=50)
def test_a_balanced_order_holds_classes_and_their_images_equally_often(sizes, seed: int):
    """Up to one; the first class may have no image at all."""
    labels = torch.cat([torch.full((size,), i + 1) for i, size in enumerate(sizes)])
    order = balanced_order(labels, torch.Generator().manual_seed(seed))
    assert len(order) == len(labels)
    by_class = labels[order].bincount(minlength=len(sizes) + 1)[1:]
    assert int(by_class.max() - by_class.min()) <= 1
    by_image = order.bincount(minlength=len(labels))
    for i in range(len(sizes)):
        members = by_image[labels == i + 1]
        assert int(members.max() - members.min()) <= 1


def test_balanced_batches_are_a_function_of_the_step_and_the_rare_class_is_half_of_them():
    images = numbered(304)
    images = ImageSet(images.images, (torch.arange(304) >= 300).long(), ("many", "few"))
    made, again = (
        BatchStream(images, batch_size=32, augment=EVERYTHING, normalize=NORMALIZE, seed=0,
                    name="w", balanced=True)
        for _ in range(2)
    )  # fmt: skip
    assert made.batches_per_epoch == 10
    labels = torch.cat([made.batch(step).labels for step in range(10)])
    assert labels.bincount().tolist() == [152, 152]
    assert all(same(made.batch(step), again.batch(step)) for step in (17, 3))
    left_out = [set(range(300)) - set(torch.cat(made.indices(e)).tolist()) for e in range(2)]
    assert len(left_out[0]) == len(left_out[1]) == 148 and left_out[0] != left_out[1]


def test_class_weights_are_given_to_the_images_of_all_ranks():
    weights = torch.linspace(1, 2, 23)
    whole = stream(class_weights=weights).batch(1)
    assert whole.importance is not None
    assert torch.equal(whole.importance, weights[whole.labels])
    parts = [
        stream(batch_size=6, class_weights=weights, ranks=Ranks(rank, 2)).batch(1)
        for rank in range(2)
    ]
    for part in parts:
        assert part.importance is not None
        assert torch.equal(part.importance, weights[part.labels])
    assert stream().batch(1).importance is None


def test_epochs_have_different_orders():
    orders = [tuple(torch.cat(stream().indices(epoch)).tolist()) for epoch in range(5)]
    assert len(set(orders)) == 5


def test_random_access_equals_sequential_access_and_a_second_stream():
    made, steps = stream(), range(12)
    sequential = [made.batch(step) for step in steps]
    backwards = [made.batch(step) for step in reversed(steps)][::-1]
    elsewhere = [stream().batch(step) for step in steps]
    for a, b, c in zip(sequential, backwards, elsewhere, strict=True):
        assert same(a, b) and same(a, c)


def test_a_batch_is_its_images_cropped_flipped_normalized_erased():
    """The same by hand, with the documented seed."""
    made, step = stream(), 7
    chosen = made.indices(step // made.batches_per_epoch)[step % made.batches_per_epoch]
    rng = torch.Generator().manual_seed(derive_seed(0, "w", "augment", step))
    images = EVERYTHING.geometric(made.images.images[chosen], rng)
    expected = EVERYTHING.erase(NORMALIZE(images), rng), made.images.labels[chosen]
    assert same(made.batch(step), expected)


@pytest.mark.parametrize("change", [{"name": "a"}, {"seed": 1}], ids=str)
def test_another_name_or_seed_is_another_order_and_other_noise(change: dict[str, object]):
    assert not torch.equal(torch.cat(stream().indices(0)), torch.cat(stream(**change).indices(0)))
    images = numbered(64)
    alike = images.images[:1].expand(64, 1, 8, 8)  # whatever the order, only noise differs
    images = ImageSet(alike, images.labels, images.classes)
    one, other = (stream(images=images, batch_size=64, **more) for more in ({}, change))
    assert not torch.equal(one.batch(0)[0], other.batch(0)[0])


def test_noise_changes_from_step_to_step():
    made = stream(num_images=4, batch_size=4)
    pictures = []
    for step in range(6):
        images, labels, *_ = made.batch(step)
        pictures.append(images[labels.argsort()])
    assert not any(torch.equal(pictures[0], other) for other in pictures[1:])


def test_global_generator_has_no_part_in_it():
    before = torch.get_rng_state()
    first = stream().batch(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1234)
    assert same(first, stream().batch(3))


@pytest.mark.parametrize("augment", [Augment(), EVERYTHING], ids=["plain", "augmented"])
def test_channels_last_changes_the_layout_alone(augment: Augment):
    images = numbered(12).images.expand(12, 3, 8, 8)
    colour = ImageSet(images, torch.arange(12), tuple(map(str, range(12))))
    normalize = Normalize(torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4]))
    plain, last = (
        BatchStream(
            colour,
            batch_size=4,
            augment=augment,
            normalize=normalize,
            seed=0,
            name="w",
            channels_last=channels_last,
        ).batch(1)
        for channels_last in (False, True)
    )
    assert same(plain, last)
    assert plain[0].is_contiguous()
    assert last[0].is_contiguous(memory_format=torch.channels_last)
    evaluated, _ = next(
        evaluation_batches(colour, batch_size=4, normalize=normalize, channels_last=True)
    )
    assert evaluated.is_contiguous(memory_format=torch.channels_last)


def test_batches_are_float32_and_int64():
    images, labels, *_ = stream().batch(0)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.shape == (5, 1, 8, 8)


@pytest.mark.parametrize("batch_size", [1, 0, -3])
def test_training_on_single_images_is_refused(batch_size: int):
    with pytest.raises(ValueError, match=f"batch_size must be at least 2 .* got {batch_size}"):
        stream(batch_size=batch_size)


@pytest.mark.parametrize("num_images", [0, 1])
def test_training_on_nothing_is_refused(num_images: int):
    with pytest.raises(ValueError, match=f"at least 2 images, got {num_images} for 'w'"):
        stream(num_images)


def test_augmentation_that_does_not_fit_the_images_is_refused():
    with pytest.raises(
        ValueError, match=r"dataset\.augment\.cutout must be less than the image's 8"
    ):
        stream(augment=Augment(cutout=16))


@given(num_images=st.integers(1, 30), batch_size=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_evaluation_shows_every_image_once_in_order(num_images, batch_size):
    images = numbered(num_images)
    batches = list(evaluation_batches(images, batch_size=batch_size, normalize=NORMALIZE))
    assert [len(labels) for _, labels in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert torch.equal(torch.cat([labels for _, labels in batches]), images.labels)
    assert torch.equal(torch.cat([shown for shown, _ in batches]), NORMALIZE(images.images))


def test_evaluation_refuses_at_the_call():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        evaluation_batches(numbered(3), batch_size=0, normalize=NORMALIZE)
    with pytest.raises(ValueError, match="evaluation needs at least one image"):
        evaluation_batches(numbered(0), batch_size=2, normalize=NORMALIZE)


def test_derived_seeds_are_those_of_every_process():
    """By hand: sha256 of `[1, "w"]`, its first 8 bytes, without the last bit."""
    code = (
        "import hashlib; "
        "print(int(hashlib.sha256(b'[1, \"w\"]').hexdigest()[:16], 16) // 2); "
        "from darts_gdas.runtime.data import derive_seed; print(derive_seed(1, 'w'))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    ).stdout.split()
    assert printed == [str(derive_seed(1, "w"))] * 2


PARTS = st.lists(st.integers(-(2**70), 2**70) | st.text(max_size=5), min_size=1, max_size=3)


@given(one=PARTS, other=PARTS)
@settings(deadline=None, max_examples=100)
def test_derived_seeds_tell_their_parts_apart(one, other):
    assert 0 <= derive_seed(*one) < 2**63
    assert (derive_seed(*one) == derive_seed(*other)) == (one == other)


def test_derived_seeds_tell_numbers_from_text_and_where_parts_end():
    seeds = {derive_seed(1), derive_seed("1"), derive_seed("ab", "c"), derive_seed("a", "bc")}
    assert len(seeds) == 4


@pytest.mark.parametrize(
    ("num_images", "batch_size", "size"),
    [(23, 6, 2), (40, 12, 3), (25, 8, 4), (26, 8, 4), (45, 20, 5), (29, 12, 6)],
)
def test_ranks_take_parts_that_are_together_the_batch(num_images: int, batch_size: int, size: int):
    """In every step over two epochs: the same images, the same noise, weights that add up."""
    shared = [
        stream(num_images, batch_size=batch_size, ranks=Ranks(rank, size)) for rank in range(size)
    ]
    whole = stream(num_images, batch_size=batch_size)
    assert {made.batches_per_epoch for made in shared} == {whole.batches_per_epoch}
    for step in range(2 * whole.batches_per_epoch):
        parts = [made.batch(step) for made in shared]
        assert all(len(part.labels) >= 2 for part in parts)
        counted = [part for part in parts if part.counts]
        labels = torch.cat([part.labels for part in counted])
        pictures = torch.cat([part.images for part in counted])
        assert same((pictures, labels), whole.batch(step)[:2])
        # The mean over ranks of weighted means of any function is its mean over the batch.
        value = labels.double().sin()
        means = [part.weight * part.labels.double().sin().mean() for part in parts]
        assert_close(torch.stack(means).mean(), value.mean())


def test_a_batch_too_small_for_all_ranks_is_computed_several_times_in_equal_parts():
    """26 images in batches of 20 leave 6; of five ranks the last two repeat the first two's."""
    parts = [stream(26, batch_size=20, ranks=Ranks(rank, 5)).batch(1) for rank in range(5)]
    assert [len(part.labels) for part in parts] == [2] * 5
    assert [part.counts for part in parts] == [True] * 3 + [False] * 2
    assert torch.equal(parts[3].images, parts[0].images)
    weights = [2 * 5 / (6 * alike) for alike in (2, 2, 1, 2, 2)]
    assert [part.weight for part in parts] == pytest.approx(weights)
    assert {len(split(part, 4)) for part in parts} == {1}  # all ranks have as many passes


@pytest.mark.parametrize("batch_size", [2, 7])
def test_a_batch_that_ranks_cannot_share_is_refused(batch_size: int):
    message = f"it must be a multiple of 4 and at least 8, got {batch_size}"
    with pytest.raises(ValueError, match=message):
        stream(batch_size=batch_size, ranks=Ranks(0, 4))
