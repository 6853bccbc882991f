"""What a data set is: its own configuration, and how its images are loaded."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from darts_gdas.runtime.augment import Augment
from darts_gdas.runtime.images import Images

Pair = tuple[Images, Images]
"""Images for training, and for testing."""


SIZES = ("image_size", "size", "layout")
"""Settings, of those data sets that have them, on which the size of the images depends."""


class DataFault(RuntimeError):
    """Images that cannot be had, in a run whose input was right: a file is gone, a disc full."""


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


@contextlib.contextmanager
def needing_size(dataset: Dataset) -> Iterator[None]:
    """Around a check of the images' size, whose errors then name what this data set can set.

    Raises:
        ValueError: If the block does.
    """
    try:
        yield
    except ValueError as error:
        names = [f"dataset.{part.name}" for part in fields(dataset) if part.name in SIZES]
        remedy = f"see {' and '.join(names)}" if names else "those of this data set have one size"
        raise ValueError(f"{error}; {remedy}") from None
