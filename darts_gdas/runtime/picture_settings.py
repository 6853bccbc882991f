"""What settings of pictures must be, whoever reads them."""

import math
from collections.abc import Sequence


def check_sizes(height: int | None, width: int | None) -> None:
    """Raise a `ValueError` unless what the network sees has pixels."""
    for name, pixels in (("image_size", height), ("image_width", width)):
        if pixels is not None and pixels < 1:
            raise ValueError(f"dataset.{name} must be at least 1 pixel, got {pixels}")


def check_channels(channels: int) -> None:
    """Raise a `ValueError` unless pictures have colours, or are grey."""
    if channels not in (1, 3):
        raise ValueError(f"dataset.channels must be 3 (colour) or 1 (grey), got {channels}")


def check_limits(gigabytes: float, megapixels: float) -> None:
    """Raise a `ValueError` unless some pictures, and some of their pixels, are allowed."""
    for name, most in (("max_gigabytes", gigabytes), ("max_megapixels", megapixels)):
        if not most > 0:
            raise ValueError(f"dataset.{name} must be positive, got {most}")


def check_range(values: Sequence[float] | None) -> None:
    """Raise a `ValueError` unless a declared range of values is one."""
    if values is not None and not (
        len(values) == 2 and all(map(math.isfinite, values)) and values[0] < values[1]
    ):
        raise ValueError(
            "dataset.value_range must be two numbers, [BLACK,WHITE], the first less than the "
            f"second, got {list(values)}"
        )
