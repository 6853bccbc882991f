"""Where images come from: scikit-learn's digits, CIFAR, a folder of pictures.

Each dataset is a dataclass that is its own configuration; `load` does the work and finds out
whether the files are there. Libraries that only one dataset needs are imported by its `load`.
"""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch

from darts_gdas.runtime.augment import Augment
from darts_gdas.runtime.dataset import Dataset, Pair
from darts_gdas.runtime.folder import ImageFolder
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.split import check_fraction, stratified_split

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

__all__ = ["Cifar", "Cifar10", "Cifar100", "Dataset", "Digits", "ImageFolder", "Pair"]


@final
@dataclass(kw_only=True)
class Digits(Dataset):
    """1797 grey 8x8 images of handwritten digits that come with scikit-learn: no download.

    Attributes:
        test_fraction: Share of each class that is kept for testing, in (0, 1).
        seed: Which images those are; independent of the seed of the run.
    """

    test_fraction: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction, "dataset.test_fraction")

    def load(self) -> Pair:
        """Scale the values 0 to 16 to bytes and split."""
        values, targets = _digits()
        images = torch.from_numpy(values).mul(255 / 16).round().to(torch.uint8)
        labels = torch.from_numpy(targets).long()
        said = ("values 0 to 16 become 0 to 255",)
        everything = ImageSet(images.view(-1, 1, 8, 8), labels, tuple(map(str, range(10))), said)
        test, train = stratified_split(labels, self.test_fraction, self.seed)
        return everything.select(train), everything.select(test)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels [images, 64] and classes, out of scikit-learn's table.

    Read from its file: to import the package takes a second, a fifth of a search's start.
    """
    package = importlib.util.find_spec("sklearn")
    if package is not None and package.origin is not None:
        table = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if table.exists():
            rows = np.loadtxt(table, delimiter=",")
            return rows[:, :-1], rows[:, -1].astype(int)
    from sklearn.datasets import load_digits

    values, targets = load_digits(return_X_y=True)
    return values, targets


@dataclass(kw_only=True)
class Cifar(Dataset):
    """60,000 colour 32x32 images, 10,000 of them for testing.

    Attributes:
        augment: By default the crop and flip that everyone uses.
        root: Folder that holds `cifar-10-batches-py` or `cifar-100-python`, or will.
        download: Fetch it (170 MB) if it is not there.
    """

    augment: Augment = field(default_factory=lambda: Augment(crop_padding=4, flip=True))
    root: str = "data"
    download: bool = False


@final
@dataclass(kw_only=True)
class Cifar10(Cifar):
    """CIFAR with 10 classes."""

    def load(self) -> Pair:
        """Read it, or fetch it first if that is wanted."""
        from torchvision.datasets import CIFAR10

        return _load_cifar(CIFAR10, "CIFAR-10", root=self.root, download=self.download)


@final
@dataclass(kw_only=True)
class Cifar100(Cifar):
    """CIFAR with 100 classes."""

    def load(self) -> Pair:
        """Read it, or fetch it first if that is wanted."""
        from torchvision.datasets import CIFAR100

        return _load_cifar(CIFAR100, "CIFAR-100", root=self.root, download=self.download)


def _load_cifar(factory: "type[CIFAR10]", name: str, *, root: str, download: bool) -> Pair:
    """Both parts by way of torchvision, which checks the files' MD5."""
    try:
        train, test = (factory(root, train=part, download=download) for part in (True, False))
    except (RuntimeError, OSError) as error:
        if download:
            raise ValueError(
                f"dataset.download=true could not fetch {name} into dataset.root={root!r}: {error}"
            ) from error
        raise ValueError(
            f"{name} is not in dataset.root={root!r}, or damaged; pass dataset.download=true to "
            "fetch it, or dataset.root=PATH if it is elsewhere"
        ) from error
    return _from_torchvision(train), _from_torchvision(test)


def _from_torchvision(part: "CIFAR10") -> ImageSet:
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    said = ("none: the pixels of the files",)
    return ImageSet(images, torch.tensor(part.targets), tuple(part.classes), said)
