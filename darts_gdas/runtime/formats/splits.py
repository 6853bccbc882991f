"""What formats of others have in common: named parts, of which some are for training."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from darts_gdas.runtime.dataset import Dataset, Pair
from darts_gdas.runtime.images import ImageSet, check_class_names
from darts_gdas.runtime.picture_files import DEFAULT_TEST_FRACTION, TEST_FOLDERS
from darts_gdas.runtime.split import check_fraction, check_share, class_share, split_in_two

logger = logging.getLogger(__name__)

Splits = Mapping[str, Callable[[], ImageSet]]
"""What reads each part of a data set. Images without names of classes have none of them."""

TRAIN = ("trainval", "train", "training", "train-standard")
"""Parts for training: the first that is there is taken."""

HOLDS = {"trainval": ("train", "val"), "train-challenge": ("train-standard",)}
"""Parts that consist of others, by what their sets say (FGVCAircraft, Places365)."""

PARTS = ("trainval", "train", "training", *TEST_FOLDERS)
"""What people call parts where a format has no names for them."""


@dataclass(kw_only=True)
class SplitSet(Dataset):
    """Labelled images in named parts, in a format that somebody else owns.

    Attributes:
        root: Where they are.
        train_split: What is trained on; several are joined by a plus, `train+val`. Null is
            `trainval`, `train`, `training`, or the only part unless it is called as tests are.
        test_split: What is tested on. Null is `test`, `testing`, `eval`, `evaluation`, `val`,
            `valid`, `validation` or `dev`, the first that is there, and where there is none of
            them a share of each class of what is trained on.
        test_fraction: That share; null is a fifth.
        fraction: Share of each class that is trained on, at least one image of each.
        seed: Which images those are; independent of the seed of the run.
        class_names: Names of the classes in the order of the labels; null takes those of the
            format, or numbers.
    """

    root: str = ""
    train_split: str | None = None
    test_split: str | None = None
    test_fraction: float | None = None
    fraction: float = 1.0
    seed: int = 0
    class_names: list[str] | None = None

    def __post_init__(self) -> None:
        if self.test_fraction is not None:
            check_fraction(self.test_fraction, "dataset.test_fraction")
        check_share(self.fraction, "dataset.fraction")
        try:
            check_class_names(self.class_names or ())
        except ValueError as error:
            raise ValueError(f"dataset.class_names: {error}") from None

    def place(self) -> Path:
        """The root.

        Raises:
            ValueError: If none is given, or there is nothing.
        """
        path = Path(self.root).expanduser()
        if not self.root or not path.exists():
            found = f"there is nothing at {self.root!r}" if self.root else "none is given"
            raise ValueError(f"dataset.root must say where the images are, but {found}")
        return path

    def chosen(self, known: Sequence[str]) -> tuple[list[str], list[str]]:
        """Names of the parts that are trained and tested on; of the latter there may be none.

        Args:
            known: The parts that there are.

        Raises:
            ValueError: If a part is not there, or serves both.
        """
        usual = next((name for name in TRAIN if name in known), None)
        if usual is None and len(known) == 1 and known[0] not in TEST_FOLDERS:
            usual = known[0]
        train = self._named("train_split", self.train_split or usual, known)
        left = [name for name in known if not _common([name], train)]
        test = self.test_split or next((name for name in TEST_FOLDERS if name in left), None)
        if test is None:
            return train, []
        if self.test_fraction is not None:
            raise ValueError(
                f"dataset.test_fraction={self.test_fraction} has no effect: {test!r} holds the "
                "images for testing; leave one of them out"
            )
        tested = self._named("test_split", test, known)
        if both := _common(train, tested):
            raise ValueError(
                f"dataset.test_split must not be trained on, but {both[0]!r} is"
                + (f", as a part of {' and of '.join(both[1:])}" if both[1:] else "")
            )
        return train, tested

    def _named(self, setting: str, text: str | None, known: Sequence[str]) -> list[str]:
        names = (text or "").split("+")
        if strange := [name for name in names if name not in known]:
            raise ValueError(
                f"dataset.{setting} must be of {', '.join(map(repr, known))}, several joined by "
                f"+, got {strange[0]!r}"
                if text and known
                else f"dataset.{setting} must name one of the parts that are there, which are "
                f"{', '.join(map(repr, known)) or 'none'}"
            )
        everything = [held for name in names for held in _held(name)]
        if len(everything) > len(set(everything)):
            twice = next(name for name in everything if everything.count(name) > 1)
            raise ValueError(f"dataset.{setting}={text!r} must name each part once, got {twice!r}")
        return names

    def pair(self, splits: Splits) -> Pair:
        """Read what is chosen; give the classes their names, and training its share.

        Raises:
            ValueError: If a part is damaged, or parts do not go together.
        """
        names = self.chosen(list(splits))
        parts = [joined([splits[name]() for name in some]) for some in names if some]
        classes = self.classes([part.classes for part in parts], [part.labels for part in parts])
        train, *rest = [replace(part, classes=classes) for part in parts]
        if not rest:
            kept, left = self.kept_for_testing(train.labels)
            train, rest = train.select(left), [train.select(kept)]
        check_known(train.labels, rest[0].labels, classes)
        return train.select(self.share(train.labels)), rest[0]

    def classes(
        self, said: Sequence[tuple[str, ...]], labels: Sequence[Int64[Tensor, " images"]]
    ) -> tuple[str, ...]:
        """Names of the classes of some parts: the user's, the format's, or numbers.

        Args:
            said: What each part calls them; empty where it does not say.
            labels: Those of each part.

        Raises:
            ValueError: If the parts say different names, or labels have none.
        """
        together = torch.cat(list(labels))
        largest = int(together.max()) if len(together) else -1
        named = {names for names in said if names}
        if len(named) > 1:
            raise ValueError(
                "images for training and testing must be of the same classes, got "
                f"{' and '.join(map(str, sorted(named)))}"
            )
        if largest >= len(together):
            raise ValueError(
                f"labels must count the classes from 0; the largest of {len(together)} is {largest}"
            )
        numbers = tuple(map(str, range(largest + 1)))
        names = tuple(self.class_names or (_distinct(named.pop()) if named else numbers))
        if largest >= len(names):
            where = "dataset.class_names" if self.class_names else "the data set"
            raise ValueError(f"{where} names {len(names)} classes, but a label is {largest}")
        return names

    def kept_for_testing(
        self, labels: Int64[Tensor, " images"]
    ) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " left"]]:
        """Positions of what is kept for testing where there is no part for it, and of the rest."""
        if self.test_fraction is None:
            logger.warning(
                "there is no part for testing: %g of each class is kept for it, and never trained "
                "on; dataset.test_fraction=%g says so, or another share",
                DEFAULT_TEST_FRACTION,
                DEFAULT_TEST_FRACTION,
            )
        return self._split(labels)

    def _split(
        self, labels: Int64[Tensor, " images"]
    ) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " left"]]:
        share = DEFAULT_TEST_FRACTION if self.test_fraction is None else self.test_fraction
        return split_in_two(labels, share, self.seed, "dataset.test_fraction")

    def share(self, labels: Int64[Tensor, " images"]) -> Int64[Tensor, " chosen"]:
        """Positions of what is trained on."""
        if self.fraction == 1:
            return torch.arange(len(labels))
        return class_share(labels, self.fraction, self.seed)

    def trained_on(
        self, labels: Sequence[Int64[Tensor, " images"]], *, is_split: bool
    ) -> list[Int64[Tensor, " chosen"]]:
        """Positions, in each of the parts that are joined, of what `pair` will train on.

        Args:
            labels: Those of each part.
            is_split: Whether there is no part for testing, so that some of these are kept for it.
        """
        together = torch.cat(list(labels))
        left = self._split(together)[1] if is_split else torch.arange(len(together))
        is_chosen = torch.zeros(len(together), dtype=torch.bool)
        is_chosen[left[self.share(together[left])]] = True
        return [part.nonzero().flatten() for part in is_chosen.split([len(one) for one in labels])]


def _held(name: str) -> tuple[str, ...]:
    """A part and those that it consists of."""
    return (name, *HOLDS.get(name, ()))


def _common(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """What two choices share, and behind it those of their parts that consist of it."""
    held = [{part for name in names for part in _held(name)} for names in (first, second)]
    shared = sorted(held[0] & held[1])[:1]
    return shared + [repr(n) for n in (*first, *second) if shared and shared[0] in _held(n)[1:]]


def joined(parts: Sequence[ImageSet]) -> ImageSet:
    """One set of several.

    Raises:
        ValueError: If their images have different sizes or channels, or their classes other names.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    if len(kinds := {(*part.shape, part.classes) for part in parts}) > 1:
        raise ValueError(f"parts that are joined must be alike, got {sorted(kinds)}")
    return ImageSet(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        first.classes,
        first.preparation,
        tuple(name for part in parts for name in part.names),
    )


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of a format, with their number where two are the same, as the cranes of ImageNet."""
    return tuple(f"{n} ({i})" if names.count(n) > 1 else n for i, n in enumerate(names))


def check_known(
    train: Int64[Tensor, " images"], test: Int64[Tensor, " tested"], classes: Sequence[str]
) -> None:
    """Raise a `ValueError` if labels for testing are of a class that has none to train on."""
    lacking = sorted(set(test.tolist()) - set(train.tolist()))
    if lacking:
        more = f", and {len(lacking) - 3} more" if lacking[3:] else ""
        raise ValueError(
            "images for testing must be of classes that are trained on, but there are no images "
            f"for training of {', '.join(repr(classes[label]) for label in lacking[:3])}{more}"
        )


def checked_labels(values: object, count: int, what: str) -> Int64[Tensor, " images"]:
    """Labels as torch has them, if they can be right.

    Args:
        values: Whole numbers, one for each image; [images, 1] is taken too, as MedMNIST has it.
        count: How many images there are.
        what: Names them in an error.

    Raises:
        ValueError: If they are no whole numbers, of another number, or negative.
    """
    labels = np.asarray(values)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" and labels.size:
        raise ValueError(f"{what} must be whole numbers, got {labels.dtype}")
    if labels.shape != (count,):
        raise ValueError(
            f"{what} must be one number for each of the {count} images, got shape "
            f"{list(labels.shape)}"
        )
    if not count:
        raise ValueError(f"{what}: there are no images")
    if labels.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{what} must count the classes from 0, got {labels.max()}")
    if (labels < 0).any():
        raise ValueError(
            f"{what} must count the classes from 0, got {labels.min()} for "
            f"{int((labels < 0).sum())} of {count} images; leave out images without a label"
        )
    return torch.from_numpy(labels.astype(np.int64))
