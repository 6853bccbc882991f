"""How far the confidence of a network can be taken at its word."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NUM_BINS = 15
"""As in the paper."""


@dataclass(frozen=True)
class Calibration:
    """Answers in bins of equal width by their confidence, bin m of M from (m - 1) / M to m / M.

    Attributes:
        images: How many answers each bin holds.
        confidence: The mean confidence of each bin; None where it is empty.
        accuracy: The share of each bin that is right; None where it is empty.

    Reference:
        Guo, Pleiss, Sun, Weinberger, ICML 2017, https://arxiv.org/abs/1706.04599, section 2.
    """

    images: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of accuracy and confidence, eq. (3)."""
        return sum(abs(gap) for gap in self._gaps()) / sum(self.images)

    @property
    def excess(self) -> float:
        """The mean confidence minus the accuracy: positive where too much is promised."""
        return sum(self._gaps()) / sum(self.images)

    def _gaps(self) -> list[float]:
        """Confidence minus accuracy of each bin, times its images."""
        columns = zip(self.images, self.confidence, self.accuracy, strict=True)
        return [n * (p - a) for n, p, a in columns if p is not None and a is not None]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        columns = {name: getattr(self, name) for name in ("images", "confidence", "accuracy")}
        return {"error": self.error, "excess": self.excess, **columns}


def calibration(
    confidence: Float[Tensor, " images"], is_right: Bool[Tensor, " images"], bins: int = NUM_BINS
) -> Calibration:
    """The calibration of answers; a confidence on the edge of two bins counts in the lower one.

    Args:
        confidence: The probability that each answer gives itself, in [0, 1].
        is_right: Whether it is the true class.
        bins: How many.
    """
    edges = torch.arange(1, bins, dtype=torch.float64, device=confidence.device) / bins
    place = torch.bucketize(confidence.double(), edges)
    images = torch.bincount(place, minlength=bins)
    counts: list[int] = images.tolist()
    sums = [torch.bincount(place, x.double(), bins).tolist() for x in (confidence, is_right)]
    means = [[s / n if n else None for s, n in zip(sum_, counts, strict=True)] for sum_ in sums]
    return Calibration(counts, *means)
