"""Which files of a folder are pictures of which class, and what is said of the others."""

import logging
import math
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor

from darts_gdas.runtime.images import check_class_names
from darts_gdas.runtime.pictures import Header, Preparation, header
from darts_gdas.runtime.split import split_in_two

logger = logging.getLogger(__name__)

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".apng", ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe"),
    *(".pbm", ".pgm", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""Endings of pictures, in upper or lower case: such a file must be readable, any other may be."""

_ENDINGS = (*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES))

TEST_FOLDERS = ("test", "testing", "eval", "evaluation", "val", "valid", "validation", "dev")
"""Where pictures for testing may lie; the first that is there is taken."""

DEFAULT_TEST_FRACTION = 0.2
"""Share of each class that is kept for testing where there is no such folder."""

LARGE, NOTABLE_LOSS = 89, 0.1
"""Megapixels, and the share of the area that is cut off, from which on it is worth a line."""

_MAX_THREADS = 8
Result = TypeVar("Result")


@dataclass
class PassedOver:
    """Files and folders that are not read, by the reason.

    Attributes:
        found: Paths by reason, a phrase in the plural.
    """

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, path: str | Path) -> None:
        """Note one."""
        self.found.setdefault(reason, []).append(str(path))

    def words(self) -> str | None:
        """All of them in one line, with an example of each; None where there are none."""
        parts = [f"{len(p)} {reason} (such as {p[0]!r})" for reason, p in self.found.items()]
        return f"passed over below dataset.root: {', '.join(parts)}" if parts else None


@dataclass(frozen=True, slots=True)
class Files:
    """Files of pictures, which may be millions.

    Attributes:
        paths: The files.
        labels: Number of the class of each.
    """

    paths: list[str]
    labels: Int64[Tensor, " files"]

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, positions: Int64[Tensor, " selected"]) -> "Files":
        """Those at these positions, in this order."""
        return Files([self.paths[i] for i in positions.tolist()], self.labels[positions])


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that has been looked at.

    Attributes:
        path: The file.
        header: What it says of itself; None where that cannot be read.
    """

    path: str
    header: Header | None


def find_parts(
    root: Path, test_fraction: float | None, seed: int, passed: PassedOver
) -> tuple[tuple[str, ...], Files, Files]:
    """The classes, and the pictures for training and for testing.

    Args:
        root: The folder of the data set.
        test_fraction: Share of each class that is kept for testing where there is no folder for
            it; None is `DEFAULT_TEST_FRACTION`, with a warning.
        seed: Which pictures those are.
        passed: Is told what is left out.

    Raises:
        ValueError: If a folder, a class or pictures are missing, or the share has no effect.
    """
    found = find_classes(root / "train", passed)
    classes = tuple(found)
    train = _pictures(found, classes, passed)
    have = set(train.labels.tolist())
    for label, name in enumerate(classes):
        if label not in have:
            raise ValueError(
                f"dataset.root must hold images of every class, but "
                f"{str(root / 'train' / name)!r} has none ({' '.join(sorted(SUFFIXES))})"
            )
    folders = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    if not folders:
        return classes, *_split(train, test_fraction, seed)
    if test_fraction is not None:
        raise ValueError(
            f"dataset.test_fraction={test_fraction} has no effect: {str(folders[0])!r} "
            "holds the images for testing; leave one of them out"
        )
    if folders[1:]:
        names = " and ".join(folder.name for folder in folders[1:])
        logger.warning("dataset.root: %s is not used, beside %s", names, folders[0].name)
    found = find_classes(folders[0], passed)
    if strange := sorted(found.keys() - set(classes)):
        raise ValueError(
            f"train and {folders[0].name} of dataset.root={str(root)!r} must hold the same "
            f"classes; only in train: {sorted(set(classes) - found.keys())}, only in "
            f"{folders[0].name}: {strange}"
        )
    test = _pictures(found, classes, passed)
    if not len(test):
        raise ValueError(f"dataset.root must hold images in {str(folders[0])!r}")
    return classes, train, test


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


def find_classes(folder: Path, passed: PassedOver) -> dict[str, list[str]]:
    """What may be pictures of each class, classes and files sorted by name.

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
    classes: dict[str, list[str]] = {}
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
        classes[name] = _files_below(str(entry), (os.path.realpath(folder),), passed)
    if not classes:
        raise ValueError(f"dataset.root must hold one folder per class in {str(folder)!r}")
    return dict(sorted(classes.items()))


def _files_below(folder: str, above: tuple[str, ...], passed: PassedOver) -> list[str]:
    """All files, also those of linked folders, sorted folder by folder."""
    above = (*above, os.path.realpath(folder))
    with os.scandir(folder) as found:  # knows kinds without a question for each file
        entries = [entry for entry in found if entry.name[0] != "."]
    others = {entry.name: entry for entry in entries if not entry.is_file()}
    start, paths = os.path.join(folder, ""), []
    names = sorted([entry.name for entry in entries])
    if not others:
        return [start + name for name in names]
    for name in names:
        entry = others.get(name)
        if entry is None:
            paths.append(start + name)
        elif not entry.is_dir():
            passed.add("dead links" if entry.is_symlink() else "special files", entry.path)
        elif os.path.realpath(entry.path) in above:
            passed.add("links to a folder that holds them", entry.path)
        else:
            paths += _files_below(entry.path, above, passed)
    return paths


def _pictures(found: dict[str, list[str]], classes: tuple[str, ...], passed: PassedOver) -> Files:
    """Those files that should hold a picture by their ending, and others that do."""
    kept = []
    for name in classes:
        members = found.get(name, [])
        others = with_headers([path for path in members if not path.endswith(_ENDINGS)])
        none = (one.path for one in others if one.header is None)
        lacking = dict.fromkeys(path for path in none if not path.lower().endswith(SUFFIXES))
        for path in lacking:
            passed.add("files without a picture that can be read", path)
        kept.append([path for path in members if path not in lacking] if lacking else members)
    numbers = torch.tensor([len(members) for members in kept])
    labels = torch.arange(len(classes)).repeat_interleave(numbers)
    return Files([path for members in kept for path in members], labels)


def with_headers(paths: Sequence[str]) -> list[Picture]:
    """Look at files."""
    headers = in_threads(header, paths) if paths else []
    return [Picture(path, head) for path, head in zip(paths, headers, strict=True)]


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


def in_threads(work: Callable[..., Result], items: Iterable[object]) -> list[Result]:
    """The results of independent work, in order."""
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))
