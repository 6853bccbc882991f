"""What precedes the cells where images are large, and what memory a step then takes."""

import copy
import logging
from enum import Enum

import torch
from torch import nn

from darts_gdas.nets import Skeleton, Stem
from darts_gdas.nets.costs import Pass, kept_bytes

logger = logging.getLogger(__name__)

LARGE = 96
"""Pixels of the shorter side from which on `auto` takes the stem of ImageNet."""


class StemChoice(Enum):
    """What precedes the first cell: one of `nets.Stem`, or the one that fits the images.

    `auto` takes `imagenet` for images of at least 96 pixels, where the first cells would else work
    at full resolution, and `cifar` for smaller ones and for networks that have no other.
    """

    auto = "auto"
    cifar = "cifar"
    imagenet = "imagenet"

    def stem(self, skeleton: Skeleton, image_size: tuple[int, int] | None) -> Stem:
        """The stem for images of a size (height, width), None where that is not known yet."""
        if self is not StemChoice.auto:
            return Stem(self.value)
        is_large = image_size is not None and min(image_size) >= LARGE
        return Stem.imagenet if is_large and Stem.imagenet in skeleton.stems else Stem.cifar


def tell_memory(
    net: nn.Module, run: Pass, shape: tuple[int, int, int], *, stem: Stem, batch_size: int
) -> None:
    """Say which stem large images get, and what a training step is expected to keep.

    Counted on shapes alone, in float32, before anything is computed; small images are passed over.

    Args:
        net: The network; left as it was.
        run: Its forward pass in training; what it calls last marks the end.
        shape: Of an image, (channels, height, width).
        stem: The one that the network has.
        batch_size: Images that pass at once.
    """
    if min(shape[1:]) < LARGE:
        return
    images = torch.empty(2, *shape, device="meta")
    (kept,) = kept_bytes(copy.deepcopy(net).to("meta"), run, images)
    logger.warning(
        "large images, %dx%d pixels (height x width), behind the %s stem (net.stem): a step on %d "
        "of them is expected to keep %s MiB for its backward pass",
        *shape[1:],
        stem.value,
        batch_size,
        f"{kept * batch_size / 2**20:,.0f}",
    )
