"""What an image of each class counts in the loss that is trained on."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.runtime.images import Images

NONE, BALANCED = "none", "balanced"


def check_class_weights(value: Any, *, balanced_batches: bool) -> None:
    """Raise a `ValueError` unless this is a word or a list of numbers, and corrects nothing twice.

    Args:
        value: Of the setting `class_weights`.
        balanced_batches: Whether batches show every class equally often already.
    """
    if value == BALANCED and balanced_batches:
        raise ValueError(
            "class_weights=balanced beside balanced_batches=true would correct twice for classes "
            "of different size; leave one of them out"
        )
    if value in (NONE, BALANCED):
        return
    numbers = value if isinstance(value, list) else []
    if not numbers or not all(_counts(number) for number in numbers) or not any(numbers):
        raise ValueError(
            "class_weights must be none, balanced, or a list with a number >= 0 for each class, "
            f"not all 0, got {value}"
        )


def class_weights(
    value: Any, images: Images, *, balanced_batches: bool
) -> Float[Tensor, " classes"] | None:
    """The weights of the classes, scaled so that their mean over the images that are shown is 1.

    So equal numbers change nothing, and the learning rate keeps its meaning. Balanced weights are
    n / (k n_c) for a class with n_c of n images, of the k classes that have any.

    Args:
        value: Of the setting.
        images: Of which batches are made.
        balanced_batches: Whether they show every class equally often.

    Raises:
        ValueError: If a list has another length than the classes, or weighs no image.
    """
    if value == NONE:
        return None
    counts = torch.bincount(images.labels.cpu(), minlength=images.num_classes).double()
    if value == BALANCED:
        weights = torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)
    else:
        if len(value) != images.num_classes:
            names = ", ".join(images.classes[:10]) + ", ..." * (images.num_classes > 10)
            raise ValueError(
                f"class_weights must hold a number for each of {images.num_classes} classes "
                f"({names}), got {len(value)}"
            )
        weights = torch.tensor(value, dtype=torch.float64)
    shown = (counts > 0).double() if balanced_batches else counts
    mean = (weights * shown).sum() / shown.sum()
    if mean == 0:
        raise ValueError(f"class_weights={value} gives every class that has images a weight of 0")
    return (weights / mean).float()


def _counts(number: object) -> bool:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return is_number and 0 <= number < math.inf  # type: ignore[operator]
