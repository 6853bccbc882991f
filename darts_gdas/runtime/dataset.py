"""What a data set is: its own configuration, and how its images are loaded."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from darts_gdas.runtime.augment import Augment
from darts_gdas.runtime.images import Images

Pair = tuple[Images, Images]
"""Images for training, and for testing."""


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
