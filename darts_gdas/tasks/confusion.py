"""How well a network does on each class, and what it takes each class for."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Int64
from torch import Tensor

MOST_CLASSES = 100
"""Classes up to which the whole matrix is written down."""


@dataclass(frozen=True)
class Confusion:
    """Images by their class and the class that a network takes them for.

    Attributes:
        counts: In row i, column j: images of class i that are taken for class j; on the CPU.
        classes: Names of the classes.
    """

    counts: Int64[Tensor, "classes classes"]
    classes: tuple[str, ...]

    @property
    def images(self) -> list[int]:
        """Images of each class."""
        return self.counts.sum(1).tolist()

    @property
    def accuracies(self) -> list[float | None]:
        """The share of each class that is right; None for a class without images."""
        right = self.counts.diagonal().tolist()
        return [n / of if of else None for n, of in zip(right, self.images, strict=True)]

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the accuracies of the classes that have images."""
        known = [accuracy for accuracy in self.accuracies if accuracy is not None]
        return sum(known) / len(known)

    def worst(self) -> str:
        """The class with the lowest accuracy, in words."""
        pairs = zip(self.accuracies, self.images, self.classes, strict=True)
        accuracy, of, name = min((a, -of, name) for a, of, name in pairs if a is not None)
        return f"{name!r}, {100 * accuracy:.2f} % of {-of} images"

    def to_dict(self, most: int = MOST_CLASSES) -> dict[str, Any]:
        """Plain values; the matrix only where there are at most so many classes."""
        told = {"names": list(self.classes), "images": self.images, "accuracy": self.accuracies}
        return told | ({"confusion": self.counts.tolist()} if len(self.classes) <= most else {})
