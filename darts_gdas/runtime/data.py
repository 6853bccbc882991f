"""Batches of images: an endless, randomly accessible stream to train on, one pass to evaluate."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from darts_gdas.runtime.augment import Augment, Normalize, Place
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.images import Images, Read


class Batch(NamedTuple):
    """Images and labels of a step, or one rank's part of them.

    Attributes:
        images: Normalised.
        labels: The class of each image.
        weight: What the mean loss over these images is multiplied with, so that the mean over the
            ranks is the mean over all images; 1 unless the ranks' parts differ in size.
        counts: Whether the images count in metrics; false where an earlier rank has the same ones.
        importance: What the loss of each image is multiplied with; None where all count alike.
    """

    images: Float[Tensor, "batch channels height width"]
    labels: Int64[Tensor, " batch"]
    weight: float = 1.0
    counts: bool = True
    importance: Float[Tensor, " batch"] | None = None


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^63) for the purpose that the parts name.

    The same on every machine, in every process and Python version. Different parts give unrelated
    seeds, so that `(seed, "weights", 3)` shares no random number with `(seed, "alphas", 3)`.
    torch's CPU generators use its low 32 bits only.
    """
    text = json.dumps(parts)  # ASCII, and keeps 1 apart from "1"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class ReadAhead:
    """Batches by number, in any order; those that come next are read in the meantime.

    Args:
        images: What to read; it says how far ahead, which bounds the memory.
        count: How many batches there are; None is without end.
    """

    def __init__(self, images: Images, count: int | None = None) -> None:
        self._images = images
        self._count = count
        self._begun: dict[int, Read] = {}

    def __call__(
        self, number: int, positions: Callable[[int], Int64[Tensor, " batch"]]
    ) -> tuple[UInt8[Tensor, "batch channels height width"], Int64[Tensor, " batch"]]:
        """Pixels and labels of a batch; what had been read ahead and does not come next is left.

        Args:
            number: Which batch.
            positions: Those of the images of a batch, by its number; always the same.

        Raises:
            DataFault: If they cannot be read.
        """
        stop = number + 1 + self._images.ahead
        numbers = range(number, stop if self._count is None else min(stop, self._count))
        begun, request = self._begun, self._images.request
        self._begun = {n: begun.get(n) or request(positions(n)) for n in numbers}
        return self._begun.pop(number)()


class BatchStream:
    """Endless, randomly accessible stream of augmented training batches.

    Batch number t is a function of (seed, name, t) alone: a run resumed at step t sees what it
    would have seen, without a state to save. It is the same whether the images are in memory or
    are read from their files, the next batches while one computes. Ranks share every batch: each
    reads and takes its part of it, so that together they see what one process would see. A last
    batch with less than two images for each rank is cut into fewer parts, which several ranks then
    compute alike.

    Args:
        images: What to draw from; every epoch is a permutation of it, unless it is balanced.
        batch_size: Images of a step over all ranks; at least 2 on each, since BatchNorm cannot
            train on one image.
        augment: Changes to each batch.
        normalize: Applied between crop and cutout.
        seed: The run's seed.
        name: The stream's name; two streams of a run with different names are unrelated.
        balanced: An epoch holds every class equally often, see `balanced_order`.
        class_weights: Importance of the images of each class; None where all count alike.
        channels_last: Memory format of the batches.
        ranks: Who shares the batches.
    """

    def __init__(
        self,
        images: Images,
        *,
        batch_size: int,
        augment: Augment,
        normalize: Normalize,
        seed: int,
        name: str,
        balanced: bool = False,
        class_weights: Float[Tensor, " classes"] | None = None,
        channels_last: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        least = 2 * ranks.size
        if batch_size < 2:
            raise ValueError(f"batch_size must be at least 2 in training, got {batch_size}")
        if batch_size < least or batch_size % ranks.size:
            raise ValueError(
                f"batch_size counts the images of all {ranks.size} ranks, so it must be a multiple "
                f"of {ranks.size} and at least {least}, got {batch_size}"
            )
        if len(images) < least:
            raise ValueError(
                f"training needs at least {least} images, got {len(images)} for {name!r}"
            )
        augment.check_size(*images.image_size)
        self.images = images
        self.batch_size = batch_size
        self.augment = augment
        self.normalize = normalize.to(images.device)
        self.seed = seed
        self.name = name
        self.balanced = balanced
        self.class_weights = class_weights
        self.channels_last = channels_last
        self.ranks = ranks
        self._orders: dict[int, list[Tensor]] = {}  # of this epoch, and of the one read ahead
        self._read = ReadAhead(images)

    @property
    def batches_per_epoch(self) -> int:
        """ceil(images / batch_size), on any number of ranks.

        A single image that remains joins the batch before it.
        """
        full, remainder = divmod(len(self.images), self.batch_size)
        return max(full + (remainder >= 2), 1)

    def indices(self, epoch: int) -> list[Int64[Tensor, " batch"]]:
        """The order of an epoch, cut into batches; on the device of the labels."""
        if epoch not in self._orders:
            rng = self._generator("order", epoch)
            labels = self.images.labels
            order = (
                balanced_order(labels.cpu(), rng)
                if self.balanced
                else torch.randperm(len(labels), generator=rng)
            ).to(labels.device)
            cuts = [self.batch_size * i for i in range(1, self.batches_per_epoch)]
            kept = [*self._orders.items()][-1:]
            self._orders = dict([*kept, (epoch, list(order.tensor_split(cuts)))])
        return self._orders[epoch]

    def batch(self, step: int) -> Batch:
        """Images and labels of a step counted from the beginning of the run.

        Args:
            step: At least 0; the epoch is step // batches_per_epoch.

        Returns:
            This rank's images in float32, normalised, and labels, on the device of the set.

        Raises:
            DataFault: If they cannot be read.
        """
        assert step >= 0
        size = self.ranks.size
        whole = self._whole(step)
        num_parts, part = self._part(len(whole))
        start = sum(len(other) for other in whole.tensor_split(num_parts)[:part])
        place = Place(start, len(whole))  # every rank draws the random numbers of the whole batch
        rng = self._generator("augment", step)
        pixels, labels = self._read(step, self._mine)
        images = self.augment.geometric(pixels, rng, place)
        images = self.normalize(_with_format(images, self.channels_last))
        images = self.augment.erase(images, rng, place)
        alike = len(range(part, size, num_parts))  # ranks that have this part
        weight = len(labels) * size / (len(whole) * alike)
        importance = self._importance(labels)
        return Batch(images, labels, weight, self.ranks.rank < num_parts, importance)

    def _importance(self, labels: Tensor) -> Tensor | None:
        return None if self.class_weights is None else self.class_weights.to(labels.device)[labels]

    def _whole(self, step: int) -> Int64[Tensor, " batch"]:
        epoch, position = divmod(step, self.batches_per_epoch)
        return self.indices(epoch)[position]

    def _part(self, batch_size: int) -> tuple[int, int]:
        """How many parts a batch has, and which is this rank's."""
        num_parts = min(self.ranks.size, batch_size // 2)
        return num_parts, self.ranks.rank % num_parts

    def _mine(self, step: int) -> Int64[Tensor, " part"]:
        whole = self._whole(step)
        num_parts, part = self._part(len(whole))
        return whole.tensor_split(num_parts)[part]

    def _generator(self, purpose: str, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, self.name, purpose, number))


def balanced_order(
    labels: Int64[Tensor, " images"], rng: torch.Generator
) -> Int64[Tensor, " images"]:
    """As many positions as there are labels, every class equally often, in random order.

    Classes differ by one at most, and so do the images of a class: of a large class some are left
    out, others in every epoch; those of a small one come again.

    Args:
        labels: Class of each image, on the CPU.
        rng: Determines the order.
    """
    classes = labels.unique()
    quota, more = divmod(len(labels), len(classes))
    with_more = set(torch.randperm(len(classes), generator=rng)[:more].tolist())
    parts = []
    for i, label in enumerate(classes):
        members = (labels == label).nonzero().flatten()
        rounds, rest = divmod(quota + (i in with_more), len(members))
        chosen = torch.randperm(len(members), generator=rng)[:rest]
        parts += [members.repeat(rounds), members[chosen]]
    order = torch.cat(parts)
    return order[torch.randperm(len(order), generator=rng)]


def evaluation_batches(
    images: Images, *, batch_size: int, normalize: Normalize, channels_last: bool = False
) -> Iterator[tuple[Float[Tensor, "batch channels height width"], Int64[Tensor, " batch"]]]:
    """All images once, in order, normalised and otherwise unchanged; the last batch may be smaller.

    Raises:
        ValueError: At the call, if batch_size < 1 or there are no images.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if len(images) == 0:
        raise ValueError("evaluation needs at least one image, got an empty set")
    normalize = normalize.to(images.device)
    parts = torch.arange(len(images), device=images.labels.device).split(batch_size)
    read = ReadAhead(images, len(parts))
    batches = (read(number, parts.__getitem__) for number in range(len(parts)))
    return ((normalize(_with_format(pixels, channels_last)), labels) for pixels, labels in batches)


def _with_format(images: Tensor, channels_last: bool) -> Tensor:
    """Bytes are reordered, not floats: a quarter of the traffic."""
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images
