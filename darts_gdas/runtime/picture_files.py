"""Which files of a folder are pictures of which class, and what is said of the others."""

import logging
import math
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from darts_gdas.runtime.images import check_class_names
from darts_gdas.runtime.listing import SUFFIXES, PassedOver, Picture, Spread, listed, start_of
from darts_gdas.runtime.pictures import Preparation
from darts_gdas.runtime.split import split_in_two

logger = logging.getLogger(__name__)

TEST_FOLDERS = ("test", "testing", "eval", "evaluation", "val", "valid", "validation", "dev")
"""Where pictures for testing may lie; the first that is there is taken."""

DEFAULT_TEST_FRACTION = 0.2
"""Share of each class that is kept for testing where there is no such folder."""

LARGE, NOTABLE_LOSS = 89, 0.1
"""Megapixels, and the share of the area that is cut off, from which on it is worth a line."""


@dataclass(frozen=True, slots=True)
class Files:
    """Files of pictures, which may be millions.

    Attributes:
        root: Folder that they are below; "" where names are whole paths.
        names: Their names there, as bytes of one length: a list of a million texts would be copied
            into every process, by the counts of its references.
        labels: Number of the class of each.
    """

    root: str
    names: np.ndarray
    labels: Int64[Tensor, " files"]

    @classmethod
    def of(cls, root: str, paths: Sequence[str], labels: Int64[Tensor, " files"]) -> "Files":
        """Those at these paths."""
        start = start_of(root)
        if not all(path.startswith(start) for path in paths):
            root = start = ""
        names = [os.fsencode(path.removeprefix(start)) for path in paths]
        return cls(root, np.array(names, dtype=np.bytes_), labels)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def paths(self) -> list[str]:
        """Where each of them is."""
        start = start_of(self.root)
        return [start + os.fsdecode(name) for name in self.names.tolist()]

    def select(self, positions: Int64[Tensor, " selected"]) -> "Files":
        """Those at these positions, in this order."""
        return replace(self, names=self.names[positions.numpy()], labels=self.labels[positions])

    @property
    def longest(self) -> int:
        """Bytes of the longest name."""
        return int(np.char.str_len(self.names).max(initial=1))


def find_parts(
    root: Path, test_fraction: float | None, seed: int, passed: PassedOver, spread: Spread
) -> tuple[tuple[str, ...], Files, Files]:
    """The classes, and the pictures for training and for testing.

    Args:
        root: The folder of the data set.
        test_fraction: Share of each class that is kept for testing where there is no folder for
            it; None is `DEFAULT_TEST_FRACTION`, with a warning.
        seed: Which pictures those are.
        passed: Is told what is left out.
        spread: Who lists the folders of the classes.

    Raises:
        ValueError: If a folder, a class or pictures are missing, or the share has no effect.
    """
    found = find_classes(root / "train", passed)
    others = _classes_for_testing(root, found, test_fraction, passed)
    folders = [*found.values(), *others.values()]
    lists = spread(partial(listed, str(root)), folders)
    for _, left_out in lists:
        passed.update(left_out)
    names = dict(zip(folders, (below for below, _ in lists), strict=True))
    for folder in found.values():
        if not len(names[folder]):
            raise ValueError(
                f"dataset.root must hold images of every class, but {folder!r} has none "
                f"({' '.join(sorted(SUFFIXES))})"
            )
    classes = tuple(found)
    train = _files(root, classes, found, names)
    if not others:
        return classes, *_split(train, test_fraction, seed)
    test = _files(root, classes, others, names)
    if not len(test):
        folder = os.path.dirname(next(iter(others.values())))
        raise ValueError(f"dataset.root must hold images in {folder!r}")
    return classes, train, test


def _classes_for_testing(
    root: Path, found: dict[str, str], test_fraction: float | None, passed: PassedOver
) -> dict[str, str]:
    """The folders of classes for testing; none where they are taken out of those for training."""
    folders = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    if not folders:
        return {}
    if test_fraction is not None:
        raise ValueError(
            f"dataset.test_fraction={test_fraction} has no effect: {str(folders[0])!r} "
            "holds the images for testing; leave one of them out"
        )
    if folders[1:]:
        names = " and ".join(folder.name for folder in folders[1:])
        logger.warning("dataset.root: %s is not used, beside %s", names, folders[0].name)
    others = find_classes(folders[0], passed)
    if strange := sorted(others.keys() - found.keys()):
        raise ValueError(
            f"train and {folders[0].name} of dataset.root={str(root)!r} must hold the same "
            f"classes; only in train: {sorted(found.keys() - others.keys())}, only in "
            f"{folders[0].name}: {strange}"
        )
    return others


def _files(
    root: Path, classes: tuple[str, ...], found: dict[str, str], names: dict[str, np.ndarray]
) -> Files:
    """Those below the folders of some classes."""
    parts = [names[folder] for folder in found.values()]
    numbers = {name: label for label, name in enumerate(classes)}
    labels = torch.tensor([numbers[name] for name in found])
    labels = labels.repeat_interleave(torch.tensor([len(part) for part in parts]))
    return Files(str(root), np.concatenate(parts), labels)


def _split(files: Files, fraction: float | None, seed: int) -> tuple[Files, Files]:
    """What is left for training, and a part for testing."""
    if fraction is None:
        fraction = DEFAULT_TEST_FRACTION
        logger.warning(
            "dataset.root has no folder test: %g of each class is kept for testing, out of "
            "train, and never trained on; dataset.test_fraction=%g says so, or another share",
            fraction,
            fraction,
        )
    test, train = split_in_two(files.labels, fraction, seed, "dataset.test_fraction")
    return files.select(train), files.select(test)


def find_classes(folder: Path, passed: PassedOver) -> dict[str, str]:
    """The folder of each class, sorted by its name.

    Names of classes are composed Unicode (NFC): a letter with an accent is the same name, whether
    the file system holds it as one character or as two.

    Args:
        folder: Holds one folder per class.
        passed: Is told what is left out; names that begin with a dot are left out unsaid.

    Raises:
        ValueError: If there is no such folder, or names cannot be told apart or written.
    """
    if not folder.is_dir():
        raise ValueError(
            f"dataset.root must hold {folder.name}/<class>/, but there is no folder {str(folder)!r}"
        )
    classes: dict[str, str] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            is_dead = entry.is_symlink() and not entry.exists()
            passed.add("dead links" if is_dead else "files beside the classes' folders", entry)
            continue
        check_class_names([entry.name])
        name = unicodedata.normalize("NFC", entry.name)
        if name in classes:
            raise ValueError(
                f"two folders in {str(folder)!r} have names that look the same, {name!a} "
                f"and {unicodedata.normalize('NFD', name)!a}; rename one, or put the pictures "
                "together"
            )
        classes[name] = str(entry)
    if not classes:
        raise ValueError(f"dataset.root must hold one folder per class in {str(folder)!r}")
    return dict(sorted(classes.items()))


def look_at_sizes(pictures: Iterable[Picture], prepare: Preparation, max_megapixels: float) -> None:
    """Refuse what is too large; say what is large, cut off, or one of several in a file.

    Args:
        pictures: Those that have been looked at.
        prepare: What is cut off.
        max_megapixels: Of the largest picture.

    Raises:
        ValueError: If it is larger.
    """
    known = [(p.path, p.header) for p in pictures if p.header is not None]
    if not known:
        return
    path, largest = max(known, key=lambda pair: pair[1].megapixels)
    size = f"{path!r} ({largest.size[0]}x{largest.size[1]} pixels)"
    if largest.megapixels > max_megapixels:
        raise ValueError(
            f"dataset.root holds a picture of {largest.megapixels:.0f} megapixels, {size}; "
            "remove it, or allow it with dataset.max_megapixels="
            f"{math.ceil(largest.megapixels)}"
        )
    if largest.megapixels > LARGE:
        logger.warning(
            "dataset.root holds a large picture, %s, which takes about %.1f GB while it is "
            "read; dataset.max_megapixels refuses such files",
            size,
            3 * largest.megapixels / 1e3,
        )
    lost = [prepare.lost(head.size) for _, head in known]
    if sum(lost) / len(lost) > NOTABLE_LOSS:
        most = max(range(len(lost)), key=lost.__getitem__)
        logger.warning(
            "the cut to %dx%d pixels leaves out %.0f %% of the pictures' area on average, "
            "%.0f %% of %r (dataset.image_size, dataset.image_width)",
            prepare.width,
            prepare.height,
            100 * sum(lost) / len(lost),
            100 * lost[most],
            known[most][0],
        )
    series = [path for path, head in known if head.is_series]
    if series:
        logger.warning(
            "%d files hold several pictures, of which the first is read, such as %r",
            len(series),
            series[0],
        )
