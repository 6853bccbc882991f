"""Where images come from: scikit-learn's digits, CIFAR, a folder of pictures.

Each dataset is a dataclass that is its own configuration; `load` does the work and finds out
whether the files are there. Libraries that only one dataset needs are imported by its `load`.
"""

import logging
import os
import struct
import zlib
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from PIL import Image, ImageOps

from darts_gdas.runtime.augment import Augment
from darts_gdas.runtime.images import ImageSet, stratified_split

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

logger = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Files that `ImageFolder` takes for pictures, in upper or lower case."""

# What Pillow raises for a file that is not the picture its name promises.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
_DECODE_ERRORS = (*_BROKEN, Image.DecompressionBombError)
_MAX_THREADS = 8

Pair = tuple[ImageSet, ImageSet]
Files = dict[str, list[Path]]


@dataclass(kw_only=True)
class Dataset(ABC):
    """Labelled images for training and for testing.

    Attributes:
        augment: Changes to training batches.
    """

    augment: Augment = field(default_factory=Augment)

    @abstractmethod
    def load(self) -> Pair:
        """Training and test images on the CPU; they have the same size and classes.

        Raises:
            ValueError: If the files are not there or not what they should be.
        """


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
        if not 0 < self.test_fraction < 1:
            raise ValueError(
                f"dataset.test_fraction must lie between 0 and 1, got {self.test_fraction}"
            )

    def load(self) -> Pair:
        """Scale the values 0 to 16 to bytes and split."""
        from sklearn.datasets import load_digits

        values, targets = load_digits(return_X_y=True)
        images = torch.from_numpy(values).mul(255 / 16).round().to(torch.uint8)
        labels = torch.from_numpy(targets).long()
        everything = ImageSet(images.view(-1, 1, 8, 8), labels, tuple(map(str, range(10))))
        test, train = stratified_split(labels, self.test_fraction, self.seed)
        return everything.select(train), everything.select(test)


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


@final
@dataclass(kw_only=True)
class ImageFolder(Dataset):
    """Any pictures, sorted into `ROOT/train/<class>/` and `ROOT/test/<class>/`.

    Pictures may lie deeper below their class; names that begin with a dot are passed over. Each
    is scaled (bicubic, antialiased) until its shorter side fits and its centre is cut out. The
    orientation that a camera notes in EXIF is not applied, and transparency is dropped.

    Attributes:
        root: The folder.
        image_size: Height and width in pixels of what the network sees.
        channels: 3 for colour, 1 for grey.
        skip_corrupt: Leave out pictures that cannot be read, with one warning, instead of failing.
        max_gigabytes: Refuse to load more than this many 10^9 bytes of pixels into memory.
    """

    root: str = ""
    image_size: int = 32
    channels: int = 3
    skip_corrupt: bool = False
    max_gigabytes: float = 8.0

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"dataset.image_size must be at least 1 pixel, got {self.image_size}")
        if self.channels not in (1, 3):
            raise ValueError(
                f"dataset.channels must be 3 (colour) or 1 (grey), got {self.channels}"
            )
        if not self.max_gigabytes > 0:
            raise ValueError(f"dataset.max_gigabytes must be positive, got {self.max_gigabytes}")

    def load(self) -> Pair:
        """Look at all names first, then decode all pictures."""
        if not self.root:
            raise ValueError(
                "dataset.root must name a folder that holds train/<class>/ and test/<class>/; "
                "pass dataset.root=PATH"
            )
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise ValueError(f"dataset.root must be a folder, but there is none at {self.root!r}")
        train, test = _find_classes(root / "train"), _find_classes(root / "test")
        if train.keys() != test.keys():
            raise ValueError(
                f"train and test of dataset.root={self.root!r} must hold the same classes; "
                f"only in train: {sorted(train.keys() - test.keys())}, "
                f"only in test: {sorted(test.keys() - train.keys())}"
            )
        self._check_memory(sum(map(len, [*train.values(), *test.values()])))
        return self._decode_all(train), self._decode_all(test)

    def _check_memory(self, num_images: int) -> None:
        gigabytes = num_images * self.channels * self.image_size**2 / 1e9
        if gigabytes > self.max_gigabytes:
            raise ValueError(
                f"the {num_images} images of dataset.root take {gigabytes:.3g} GB at "
                f"dataset.image_size={self.image_size}, more than dataset.max_gigabytes="
                f"{self.max_gigabytes:g}; use smaller images or raise dataset.max_gigabytes"
            )

    def _decode_all(self, files: Files) -> ImageSet:
        """One part of the set; in the order of the names, however the threads run."""
        paths = [path for members in files.values() for path in members]
        labels = torch.tensor([i for i, paths in enumerate(files.values()) for _ in paths])
        size = self.image_size
        pixels = np.empty((len(paths), self.channels, size, size), dtype=np.uint8)

        def read(position: int) -> bool:
            try:
                pixels[position] = _decode(paths[position], size=size, channels=self.channels)
            except _DECODE_ERRORS as error:
                if self.skip_corrupt:
                    return False
                raise ValueError(
                    f"dataset.root holds a file that is no readable image, {str(paths[position])!r}"
                    f" ({error}); remove it or pass dataset.skip_corrupt=true"
                ) from None
            return True

        with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
            is_read = torch.tensor(list(pool.map(read, range(len(paths)))))
        everything = ImageSet(torch.from_numpy(pixels), labels, tuple(files))
        if is_read.all():
            return everything
        _report_skipped([paths[i] for i in (~is_read).nonzero().flatten().tolist()], len(paths))
        remaining = everything.select(is_read.nonzero().flatten())
        for label, (name, members) in enumerate(files.items()):
            if not (remaining.labels == label).any():
                raise ValueError(
                    f"none of the {len(members)} images of class {name!r} can be read, for example "
                    f"{str(members[0])!r}"
                )
        return remaining


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
    return ImageSet(images, torch.tensor(part.targets), tuple(part.classes))


def _find_classes(folder: Path) -> Files:
    """The pictures of each class, classes and pictures sorted by name."""
    if not folder.is_dir():
        raise ValueError(
            f"dataset.root must hold {folder.name}/<class>/, but there is no folder {str(folder)!r}"
        )
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    classes = {name: _find_images(folder / name) for name in names if not name.startswith(".")}
    if not classes:
        raise ValueError(f"dataset.root must hold one folder per class in {str(folder)!r}")
    for name, files in classes.items():
        if not files:
            raise ValueError(
                f"dataset.root must hold images of every class, but {str(folder / name)!r} has "
                f"none ({' '.join(SUFFIXES)})"
            )
    return classes


def _find_images(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = [Path(parent, name) for name in names if not name.startswith(".")]
        found += [p for p in shown if p.suffix.lower() in SUFFIXES and p.is_file()]  # no pipes
    return sorted(found, key=lambda path: path.parts)


def _decode(path: Path, *, size: int, channels: int) -> np.ndarray:
    """The centre of a picture as bytes [channels, size, size]."""
    mode = "RGB" if channels == 3 else "L"
    with Image.open(path) as file:
        file.draft(mode, (2 * size, 2 * size))  # JPEG only: decode no finer than needed
        image: Image.Image = file
        if file.mode == "F":
            raise ValueError("its pixels are floats of unknown range")
        if file.mode.startswith("I"):  # 16 bits, which `convert` would clip instead of scale
            image = Image.fromarray((np.asarray(file) // 256).clip(0, 255).astype(np.uint8))
        elif file.mode == "P":  # `convert` warns where the palette holds transparency
            image = file.convert("RGBA")
        fitted = ImageOps.fit(image.convert(mode), (size, size), Image.Resampling.BICUBIC)
    return np.asarray(fitted).reshape(size, size, channels).transpose(2, 0, 1)


def _report_skipped(paths: list[Path], num_images: int) -> None:
    shown = ", ".join(str(path) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    logger.warning("skipped %d of %d images that cannot be read: %s", len(paths), num_images, shown)
