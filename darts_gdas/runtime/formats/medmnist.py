"""MedMNIST, by its own package."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np

from darts_gdas.runtime.dataset import Pair
from darts_gdas.runtime.formats.arrays import Layout, Scale, with_channels_first
from darts_gdas.runtime.formats.owners import looking, owner
from darts_gdas.runtime.formats.splits import SplitSet, checked_labels
from darts_gdas.runtime.images import ImageSet

logger = logging.getLogger(__name__)

PARTS = ("train", "val", "test")


@final
@dataclass(kw_only=True)
class MedMnist(SplitSet):
    """Medical pictures of one size, of which a set is chosen by its name.

    Each picture is of one class. Several labels for a picture (ChestMNIST) and volumes (those with
    3D in their names) are refused.

    Attributes:
        root: Folder that holds the set's `.npz` file, or will.
        name: The set, such as `PathMNIST`.
        size: Side of the pictures: 28, 64, 128 or 224 pixels.
        download: Fetch it if it is not there.

    Reference:
        Yang et al., Scientific Data 2023, https://arxiv.org/abs/2110.14795.
    """

    name: str = ""
    root: str = "data"
    size: int = 28
    download: bool = False

    def load(self) -> Pair:
        """Read the chosen parts with the class that the package has for the set."""
        package = owner("medmnist")
        flat = {
            flag: info for flag, info in package.INFO.items() if not flag.endswith("3d")
        }  # the package's own word for each set
        info = flat.get(self.name.lower())
        if info is None or "multi-label" in info["task"]:
            known = [i["python_class"] for i in flat.values() if "multi-label" not in i["task"]]
            why = " (several labels for a picture)" if info else ""
            raise ValueError(
                f"dataset.name must be one of {', '.join(known)}, got {self.name!r}{why}"
            )
        kind = getattr(package, info["python_class"])
        if self.size not in kind.available_sizes:
            raise ValueError(f"dataset.size must be of {kind.available_sizes}, got {self.size}")
        if "ordinal" in info["task"]:
            logger.warning("%s: grades are learnt as classes, without their order", self.name)
        if self.download:
            Path(self.root).expanduser().mkdir(parents=True, exist_ok=True)
        root = str(self.place())
        numbers = sorted(map(int, info["label"]))
        classes = tuple(info["label"][str(number)] for number in numbers)
        return self.pair({part: partial(self._read, kind, root, part, classes) for part in PARTS})

    def _read(self, kind: Any, root: str, part: str, classes: tuple[str, ...]) -> ImageSet:
        what = f"dataset.name={self.name}, dataset.root={self.root!r}"
        with looking(self.name, self.root, can_fetch=True, has_tried=self.download):
            found = kind(split=part, root=root, size=self.size, download=self.download)
        what = f"{what}: {part}"
        images = with_channels_first(np.asarray(found.imgs), Layout.channels_last, what)
        if images.shape[2:] != (self.size, self.size):
            raise ValueError(
                f"{what} must hold images of {self.size}x{self.size} pixels "
                f"(dataset.size), got {images.shape[2]}x{images.shape[3]}"
            )
        labels = checked_labels(found.labels, len(images), f"{what}_labels")
        scale = Scale.of([images], None, f"{what}_images")
        return ImageSet(scale.bytes(images, what), labels, classes, scale.words())
