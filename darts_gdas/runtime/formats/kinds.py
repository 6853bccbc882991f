"""Which of torchvision's sets have a class for each picture, and how their parts are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """How one of torchvision's classes is called.

    Attributes:
        splits: Its parts.
        argument: The argument that names a part: `train` is true or false, any other the name; None
            where there is one part.
        is_in_files: Pictures are files that its `loader` is given, so that they can be a stream.
        defaults: Arguments without which it cannot be called.
    """

    splits: tuple[str, ...] = ("train", "test")
    argument: str | None = "split"
    is_in_files: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


_BY_FLAG = Kind(argument="train")
_WHOLE = Kind(("train",), None)
_FILES = Kind(is_in_files=True)
_FILES_AND_VAL = Kind(("train", "val", "test"), is_in_files=True)

KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST"), _BY_FLAG),
    **dict.fromkeys(("QMNIST", "USPS"), _BY_FLAG),
    "EMNIST": Kind(argument="train", defaults={"split": "balanced"}),
    "SVHN": Kind(("train", "test", "extra")),
    **dict.fromkeys(("STL10", "GTSRB", "FER2013"), Kind()),
    "PCAM": Kind(("train", "val", "test")),
    "OxfordIIITPet": Kind(("trainval", "test")),
    **dict.fromkeys(("Food101", "StanfordCars"), _FILES),
    **dict.fromkeys(("DTD", "Flowers102", "RenderedSST2"), _FILES_AND_VAL),
    "Country211": Kind(("train", "valid", "test"), is_in_files=True),
    "FGVCAircraft": Kind(("trainval", "train", "val", "test"), is_in_files=True),
    **dict.fromkeys(("ImageNet", "Imagenette"), Kind(("train", "val"), is_in_files=True)),
    "CLEVRClassification": Kind(("train", "val"), is_in_files=True),
    "Places365": Kind(("train-standard", "train-challenge", "val"), is_in_files=True),
    "SUN397": Kind(("train",), None, is_in_files=True),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SEMEION"), _WHOLE),
}
"""All such sets that are known, by name."""
