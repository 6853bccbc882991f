"""Sets of labelled images, and the one that lies in memory."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

GREY_LEVELS = 256
CHUNK = 4096  # images counted at a time, so that statistics need little memory


Read = Callable[[], tuple[UInt8[Tensor, "batch channels height width"], Int64[Tensor, " batch"]]]
"""Waits for images that were asked for; their pixels and labels, on the device of the set."""


class Images(ABC):
    """Labelled images of one size: in memory (`ImageSet`), or in their files (`FileSet`).

    Attributes:
        labels: Index into `classes` for each image; positions of images lie on its device.
        classes: Names of the classes.
        preparation: What was done to the files' pixels, in words: whoever uses a network must do
            the same. Empty where it is not known.
    """

    labels: Int64[Tensor, " images"]
    classes: tuple[str, ...]
    preparation: tuple[str, ...]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where batches arrive."""

    @property
    @abstractmethod
    def ahead(self) -> int:
        """How many batches are worth asking for before they are needed."""

    @property
    @abstractmethod
    def sample(self) -> "ImageSet":
        """What statistics and looks are taken of: the images in memory, or some of many in files.

        Raises:
            DataFault: If they cannot be read.
        """

    @abstractmethod
    def request(self, positions: Int64[Tensor, " batch"]) -> Read:
        """Ask for the images at these positions; what is returned waits for them.

        Raises:
            DataFault: In what is returned, if they cannot be read.
        """

    @abstractmethod
    def to(self, device: torch.device | str) -> "Images":
        """The same images, whose batches arrive on another device."""

    @abstractmethod
    def select(self, indices: Int64[Tensor, " selected"]) -> "Images":
        """The images at these positions, in this order."""

    @abstractmethod
    def file_of(self, position: int) -> str | None:
        """The file that an image is from, for people; None where it is not known."""

    @abstractmethod
    def digest(self) -> str:
        """A sha256: the same data, the same text."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_channels(self) -> int:
        """3 for colour, 1 for grey."""
        return self.shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.shape[1], self.shape[2]

    @property
    def num_classes(self) -> int:
        """Number of classes, those without an image included."""
        return len(self.classes)

    def pixels(
        self, positions: Int64[Tensor, " batch"]
    ) -> UInt8[Tensor, "batch channels height width"]:
        """The pixels of the images at these positions.

        Raises:
            DataFault: If they cannot be read.
        """
        return self.request(positions)()[0]

    def statistics(self) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """Mean and standard deviation of each channel, in units where white is 1.

        Computed from the histogram of grey levels of the sample, hence exact in memory.
        The deviation is at least one grey level: a constant channel can be divided by it.

        Raises:
            ValueError: If there are no images.
        """
        if len(self) == 0:
            raise ValueError("statistics need at least one image, got an empty set")
        mean, deviation = self.moments()
        return mean.float(), deviation.clamp(min=1 / (GREY_LEVELS - 1)).float()

    def moments(self) -> tuple[Float64[Tensor, " channels"], Float64[Tensor, " channels"]]:
        """The same as they are: the deviation of a constant channel is 0."""
        counts = self.histogram.double()
        levels = torch.arange(GREY_LEVELS, device=counts.device).double() / (GREY_LEVELS - 1)
        share = counts / counts.sum(1, keepdim=True)  # [channels, levels]
        mean = share @ levels
        variance = (share * (levels - mean[:, None]).square()).sum(1)
        return mean, variance.sqrt()

    @cached_property
    def histogram(self) -> Int64[Tensor, "channels levels"]:
        """How many pixels of each channel have each grey level in the sample, counted once."""
        images = self.sample.images

        def counts(channel: int) -> Tensor:
            chunks = images[:, channel].split(CHUNK)
            found = [torch.bincount(chunk.flatten(), minlength=GREY_LEVELS) for chunk in chunks]
            return torch.stack(found).sum(0)

        return torch.stack([counts(channel) for channel in range(self.in_channels)])


@final
@dataclass(frozen=True, eq=False)
class ImageSet(Images):
    """Images in memory, all on one device.

    Bytes, not floats: CIFAR-10 takes 184 MB, so the whole set lives where the network does.

    Attributes:
        images: uint8 pixels, [images, channels, height, width].
        labels: Index into `classes` for each image.
        classes: Names of the classes.
        preparation: What was done to the files' pixels, in words: whoever uses a network must do
            the same. Empty where it is not known.
        names: The file that each image is from, for people; empty where it is not known.
    """

    images: UInt8[Tensor, "images channels height width"]
    labels: Int64[Tensor, " images"]
    classes: tuple[str, ...]
    preparation: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype is not torch.uint8:
            raise ValueError(
                "images must be uint8 of shape [images, channels, height, width], got "
                f"{self.images.dtype} of shape {list(self.images.shape)}"
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype is not torch.int64:
            raise ValueError(
                f"labels must be int64 of shape [{len(self.images)}], one per image, got "
                f"{self.labels.dtype} of shape {list(self.labels.shape)}"
            )
        if self.labels.device != self.images.device:
            raise ValueError(
                "images and labels must be on one device, got "
                f"{self.images.device} and {self.labels.device}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.images.shape[1], self.images.shape[2], self.images.shape[3]

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    @property
    def ahead(self) -> int:
        """None: they are there."""
        return 0

    @property
    def sample(self) -> "ImageSet":
        """All of them."""
        return self

    def request(self, positions: Int64[Tensor, " batch"]) -> Read:
        """Nothing happens before they are needed."""
        return lambda: (self.images[positions], self.labels[positions])

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same images on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def select(self, indices: Int64[Tensor, " selected"]) -> "ImageSet":
        """The images at these positions, in this order."""
        names = tuple(self.names[i] for i in indices.tolist()) if self.names else ()
        indices = indices.to(self.images.device)
        images, labels = self.images[indices], self.labels[indices]
        return replace(self, images=images, labels=labels, names=names)

    def file_of(self, position: int) -> str | None:
        """As it was named."""
        return self.names[position] if self.names else None

    def digest(self) -> str:
        """A sha256 of pixels, labels and classes: the same data, the same text."""
        hasher = hashlib.sha256(repr((tuple(self.images.shape), self.classes)).encode())
        for tensor in (self.labels, *self.images.split(CHUNK)):
            hasher.update(tensor.cpu().numpy().tobytes())
        return hasher.hexdigest()


def checked_parts(parts: tuple[Images, Images]) -> tuple[Images, Images]:
    """Images for training and for testing, as a data set has loaded them, if they go together.

    Raises:
        ValueError: If they do not, or if there are none, or labels without a class.
    """
    kinds = [(*part.shape, part.classes) for part in parts]
    if kinds[0] != kinds[1]:
        raise ValueError(
            "images for training and testing must have the same channels, size and classes, got "
            f"{kinds[0]} and {kinds[1]}"
        )
    check_class_names(parts[0].classes)
    for part in parts:
        found = part.labels.unique().tolist()
        if not found or found[0] < 0 or found[-1] >= part.num_classes:
            raise ValueError(f"labels must lie in 0..{part.num_classes - 1}, got {found}")
    return parts


def check_class_names(names: Iterable[str]) -> None:
    """Raise a `ValueError` unless names differ and can be written: a folder's need not be UTF-8."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"each class must have a name of its own, got {name!r} twice")
        seen.add(name)
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"the name of a class must be valid UTF-8, got {os.fsencode(name)!r}; rename it"
            ) from None
