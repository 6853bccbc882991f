"""A look at images after loading: what would make results worth little is said before the run."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence

from torch import Tensor

from darts_gdas.runtime.dataset import DataFault, Dataset, Pair
from darts_gdas.runtime.images import CHUNK, GREY_LEVELS, Images, ImageSet, checked_parts

logger = logging.getLogger(__name__)

FEW_LEVELS, LITTLE_DEVIATION = 32, 4.0
"""Of 256 levels: a narrower range, or less deviation, is seldom what a picture looks like."""

MANY_BLANK, MANY_COPIES = 0.1, 0.01
"""Shares of the images from which on pictures of one colour, and copies, are worth a line."""

MOST_NAMES = 5
"""Classes that a line names."""


def loaded(dataset: Dataset) -> Pair:
    """The images of a data set, which go together; warns of what looks wrong with them.

    Raises:
        ValueError: If they are not there, or do not go together.
    """
    try:
        train, test = checked_parts(dataset.load())
        for remark in remarks(train, test):
            logger.warning("%s", remark)
    except DataFault as error:  # nothing has run
        raise ValueError(str(error)) from None
    return train, test


def remarks(train: Images, test: Images) -> list[str]:
    """What looks wrong: black, constant, copied images, images under two classes, lacking classes.

    Of many images in files a sample is looked at, all of them for their classes.

    Args:
        train: The images to learn from.
        test: Those to test on.
    """
    samples = train.sample, test.sample
    found = list(_of_pixels(samples[0])) or list(_of_copies(*samples))
    sizes = [f"{len(s)} of {len(p)}" for s, p in zip(samples, (train, test), strict=True)]
    is_part = len(samples[0]) < len(train) or len(samples[1]) < len(test)
    about = f" (looked at: {sizes[0]} training images, {sizes[1]} test images)" if is_part else ""
    return [*(f"{remark}{about}" for remark in found), *_of_classes(train, test)]


def of_halves(halves: Sequence[Images]) -> str | None:
    """The classes that one half of a search alone can hold, in a line; None if there are none.

    Args:
        halves: The images for the weights, and those for the alphas.
    """
    weights, arch = (set(half.labels.unique().tolist()) for half in halves)
    parts = [
        f"{_names(halves[0].classes, lacking)} {what}"
        for lacking, what in (
            (arch - weights, "in the alphas' half alone, so that no weight is trained for it"),
            (weights - arch, "in the weights' half alone, so that it has no say in the cell"),
        )
        if lacking
    ]
    if not parts:
        return None
    return f"classes with too few training images to be in both halves: {'; '.join(parts)}"


def _of_pixels(images: ImageSet) -> Iterator[str]:
    counts = images.histogram
    used = counts.sum(0).nonzero().flatten()
    low, high = int(used[0]), int(used[-1])
    deviation = (GREY_LEVELS - 1) * float(images.moments()[1].max())
    blank = sum(int(_is_blank(chunk).sum()) for chunk in images.images.split(CHUNK))
    if low == high:
        yield f"all {len(images)} training images are of one colour, level {low}: they hold nothing"
        return
    if high - low < FEW_LEVELS or deviation < LITTLE_DEVIATION:
        yield (
            f"the training images use levels {low} to {high} of 0 to 255, with a deviation of "
            f"{deviation:.1f}: nearly black, white or constant. Look at the range of "
            "their values (docs/howto/own_data.md)"
        )
    constant = [i for i, row in enumerate(counts) if int((row > 0).sum()) == 1]
    if constant:
        yield (
            f"channel {', '.join(map(str, constant))} (from 0) is the same in all pixels of all "
            f"training images{'; dataset.channels=1 makes them grey' * (len(counts) == 3)}"
        )
    if blank >= MANY_BLANK * len(images):
        yield (
            f"{blank} of {len(images)} training images are of one colour each, without content "
            "(transparency is not looked at)"
        )


def _is_blank(images: Tensor) -> Tensor:
    flat = images.flatten(2)
    return (flat.amin(2) == flat.amax(2)).all(1)


def _of_copies(train: ImageSet, test: ImageSet) -> Iterator[str]:
    keys, others = _keys(train), _keys(test)
    number = Counter(keys)
    copies = len(keys) - len(number)
    if copies >= MANY_COPIES * len(keys):
        share = _share(copies, keys)
        yield f"{copies} of {len(keys)} training images are copies of others ({share})"
    labels: dict[int, set[int]] = {}
    for key, label in zip(keys, train.labels.tolist(), strict=True):
        labels.setdefault(key, set()).add(label)
    torn = sum(number[key] for key, found in labels.items() if len(found) > 1)
    if torn:
        yield f"{torn} training images are the same as one of another class"
    leaked = sum(key in number for key in others)
    if leaked >= MANY_COPIES * max(len(others), 1) and leaked:
        yield (
            f"{leaked} of {len(others)} test images are training images too "
            f"({_share(leaked, others)}): the test accuracy promises too much"
        )


def _share(count: int, of: Sequence[int]) -> str:
    return f"{100 * count / len(of):.3g} %"


def _keys(images: ImageSet) -> list[int]:
    """A number for each image's pixels; the same for equal ones."""
    return [hash(image.tobytes()) for image in images.images.cpu().contiguous().numpy()]


def _of_classes(train: Images, test: Images) -> Iterator[str]:
    for name, part in (("training", train), ("test", test)):
        lacking = set(range(part.num_classes)) - set(part.labels.unique().tolist())
        if lacking:
            yield f"there are no {name} images of {_names(part.classes, lacking)}"


def _names(classes: Sequence[str], labels: set[int]) -> str:
    """Some classes by name, and how many there are."""
    shown = ", ".join(repr(classes[label]) for label in sorted(labels)[:MOST_NAMES])
    more = f" and {len(labels) - MOST_NAMES} more" if len(labels) > MOST_NAMES else ""
    return f"class{'es' * (len(labels) > 1)} {shown}{more}"
