"""NumPy arrays of images and labels, with any number of channels."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from darts_gdas.runtime.dataset import Pair
from darts_gdas.runtime.formats.arrays import Layout, Scale, with_channels_first
from darts_gdas.runtime.formats.owners import reading
from darts_gdas.runtime.formats.splits import PARTS, SplitSet, checked_labels
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.picture_settings import check_range

logger = logging.getLogger(__name__)

PATTERNS = (
    *(("{}_images", "{}_labels"), ("images_{}", "labels_{}"), ("x_{}", "y_{}")),
    *(("X_{}", "y_{}"), ("{}_x", "{}_y"), ("{}_X", "{}_y"), ("{}_data", "{}_labels")),
)
"""Names of the arrays of a part."""

WHOLE = (("images", "labels"), ("x", "y"), ("X", "y"), ("data", "labels"), ("data", "target"))
"""Names of the arrays of a set in one part."""

KNOWN = (
    *((part, x.format(part), y.format(part)) for part in PARTS for x, y in PATTERNS),
    *(("", x, y) for x, y in WHOLE),
)
"""(part, images, labels); of no name is the part that is the whole set."""

Arrays = Mapping[str, Callable[[], np.ndarray]]


@final
@dataclass(kw_only=True)
class Npz(SplitSet):
    """Arrays of images and labels: one `.npz` file, or a folder of `.npy` files.

    They are called as people call them: `train_images` and `train_labels`, `x_train` and `y_train`,
    `images` and `labels`, and so on. Images have any number of channels, as those of satellites.
    Values that are not bytes are scaled to bytes, channel by channel. Nothing is unpickled.

    Attributes:
        root: The file or folder.
        layout: Where the channels stand.
        value_range: What becomes 0 and what 255 in arrays that do not hold bytes, [LOW, HIGH];
            null takes the smallest and the largest value of each channel in training, for integers.
    """

    layout: Layout = Layout.auto
    value_range: list[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.value_range)

    def load(self) -> Pair:
        """Find the arrays by name, and read those of the chosen parts."""
        arrays = self._arrays()
        try:
            names = parts_of(list(arrays))
        except ValueError as error:
            raise ValueError(f"dataset.root={self.root!r}: {error}") from None
        if not names:
            raise ValueError(
                f"dataset.root={self.root!r} must hold images and labels under names such as "
                "train_images and train_labels, x_train and y_train, images and labels, got "
                f"{', '.join(map(repr, arrays)) or 'nothing'}"
            )
        what = f"dataset.root={self.root!r}: {{}}"
        train, tested = self.chosen(list(names))
        images = {name: self._images(arrays, names[name][0], what) for name in train}

        def labels(name: str) -> Int64[Tensor, " images"]:
            of_labels, count = what.format(names[name][1]), len(images[name])
            return checked_labels(_read(arrays, names[name][1], of_labels), count, of_labels)

        def trained() -> list[Int64[Tensor, " images"]]:
            numbers = [labels(name) for name in train]
            return self.trained_on(numbers, is_split=not tested)

        parts = [images[name] for name in train]
        scale = Scale.of(parts, self.value_range, what.format("the images"), trained)

        def read(name: str) -> ImageSet:
            if name not in images:
                images[name] = self._images(arrays, names[name][0], what)
            found = scale.bytes(images[name], what.format(names[name][0]))
            return ImageSet(found, labels(name), (), scale.words())

        if scale.ends is not None and self.value_range is None:
            logger.warning("dataset.root: %s; dataset.value_range says otherwise", *scale.words())
        return self.pair({name: partial(read, name) for name in names})

    def _arrays(self) -> Arrays:
        root = self.place()
        if root.is_dir():
            files = sorted(root.glob("*.npy"))
            return {path.stem: partial(np.load, path, allow_pickle=False) for path in files}
        with reading(f"dataset.root={self.root!r}"), open(root, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise ValueError("one array; pass the folder that holds it and its labels")
            return {name: partial(_member, root, name) for name in found.files}

    def _images(self, arrays: Arrays, name: str, what: str) -> np.ndarray:
        of_images = what.format(name)
        return with_channels_first(_read(arrays, name, of_images), self.layout, of_images)


def _member(path: Path, name: str) -> np.ndarray:
    with open(path, "rb") as file:
        return np.load(file, allow_pickle=False)[name]


def _read(arrays: Arrays, name: str, what: str) -> np.ndarray:
    with reading(what):
        return arrays[name]()


def parts_of(names: list[str]) -> dict[str, tuple[str, str]]:
    """Names of images and labels of each part, in an order that does not depend on the file.

    Raises:
        ValueError: If a part has several, or images without labels, or labels without images.

    Example:
        >>> parts_of(["y_train", "x_train", "more"])
        {'train': ('x_train', 'y_train')}
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for part, images, labels in KNOWN:
        if images in names and labels in names:
            found.setdefault(part, []).append((images, labels))
    if not found:
        return {}
    taken = sorted({name for pairs in found.values() for pair in pairs for name in pair})
    if (len(found) > 1 and "" in found) or any(len(pairs) > 1 for pairs in found.values()):
        raise ValueError(f"each part must have its images and labels once, got {', '.join(taken)}")
    known = {name for _, *pair in KNOWN for name in pair}
    if single := sorted(known & set(names) - set(taken)):
        raise ValueError(
            f"images and labels must come in pairs, got {', '.join(single)} without the other, "
            f"beside {', '.join(taken)}"
        )
    return {part or "train": pairs[0] for part, pairs in found.items()}
