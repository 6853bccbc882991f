"""ImageNet16-120, as NAS-Bench-201 has it: pickled batches of pictures of 16x16 pixels."""

import pickle
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
import torch

from darts_gdas.runtime.dataset import Pair
from darts_gdas.runtime.formats.owners import reading
from darts_gdas.runtime.formats.splits import SplitSet, checked_labels
from darts_gdas.runtime.images import ImageSet

SIDE = 16
FILES = {
    "train": tuple(f"train_data_batch_{i}" for i in range(1, 11)),
    "val": ("val_data",),
}
ARRAYS = frozenset(("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"))
"""What pickled numpy arrays are made by; all of numpy that a file may name."""


@final
@dataclass(kw_only=True)
class ImageNet16(SplitSet):
    """Colour pictures of 16x16 pixels of the first classes of ImageNet.

    The benchmark tests on one half of what is `val` here, and validates on the other.

    Attributes:
        root: Folder with `train_data_batch_1` to `train_data_batch_10` and `val_data`.
        num_classes: Of so many classes, in the order of the files, images are taken.

    Reference:
        Dong and Yang, ICLR 2020, https://arxiv.org/abs/2001.00326.
    """

    num_classes: int = 120

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_classes < 2:
            raise ValueError(f"dataset.num_classes must be at least 2, got {self.num_classes}")

    def load(self) -> Pair:
        """Read all files; labels count from 1 in them."""
        root = self.place()
        missing = [name for names in FILES.values() for name in names if not (root / name).exists()]
        if missing:
            raise ValueError(
                f"dataset.root={self.root!r} must hold the files of ImageNet16, but {missing[0]!r} "
                f"is missing{f' and {len(missing) - 1} more' if missing[1:] else ''}"
            )
        return self.pair({name: partial(self._read, root, name) for name in FILES})

    def _read(self, root: Path, part: str) -> ImageSet:
        images, labels = [], []
        for name in FILES[part]:
            what = f"dataset.root={self.root!r}: {name}"
            with reading(what), open(root / name, "rb") as file:
                batch = unpickled(file)
                pixels = np.asarray(batch["data"])
                if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3 * SIDE**2:
                    raise ValueError(
                        f"data must be bytes [images, {3 * SIDE**2}], got {pixels.dtype} "
                        f"{list(pixels.shape)}"
                    )
                numbers = np.asarray(batch["labels"])
            numbers = checked_labels(numbers, len(pixels), f"{what}: labels")
            if int(numbers.min()) < 1:
                raise ValueError(f"{what}: labels must count from 1, got 0")
            kept = numbers <= self.num_classes
            images.append(torch.from_numpy(pixels)[kept].view(-1, 3, SIDE, SIDE))
            labels.append(numbers[kept] - 1)
        classes = tuple(map(str, range(1, self.num_classes + 1)))
        said = ("none: the pixels of the files",)
        return ImageSet(torch.cat(images), torch.cat(labels), classes, said)


def unpickled(file: BinaryIO) -> Any:
    """The content of a pickle that holds containers and numpy arrays; nothing else is called.

    Raises:
        pickle.UnpicklingError: If it names anything else.
    """
    return _ArraysOnly(file, encoding="latin1").load()  # Python 2 wrote these files


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module.split(".")[0] == "numpy" and name in ARRAYS) or (
            (module, name) == ("_codecs", "encode")
        ):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array")
