"""What search and retraining share: losses as sums, and evaluation over a data set."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from darts_gdas.nets import Mixture, SuperNet
from darts_gdas.nets.statistics import Tracked, untouched_statistics
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import Batch, evaluation_batches
from darts_gdas.runtime.images import Images
from darts_gdas.runtime.replica import with_mean_gradients
from darts_gdas.runtime.scaling import with_scaled_gradients
from darts_gdas.search.hypergradient import Weights
from darts_gdas.tasks.confusion import Confusion


def full_precision(logits: Tensor) -> Tensor:
    """Logits of a half-precision pass in float32, others as they are: losses sum exponentials."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def count_correct(logits: Tensor, labels: Tensor, *, top: int = 1) -> Tensor:
    """How many labels are among the `top` largest logits of their row."""
    top = min(top, logits.shape[1])
    return (logits.topk(top, dim=1).indices == labels[:, None]).any(dim=1).sum()


def batch_loss(logits: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy (nats) over a batch, each image's multiplied with its importance.

    The importance is that of the image, also where its target is smoothed: an importance of 2 is
    the image twice.
    """
    if batch.importance is None:
        return F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
    losses = F.cross_entropy(
        logits, batch.labels, reduction="none", label_smoothing=label_smoothing
    )
    return (batch.importance * losses).mean()


@dataclass(frozen=True)
class Evaluation:
    """What a network does on a data set.

    Attributes:
        metrics: Figures by name.
        confusion: The same class by class.
    """

    metrics: dict[str, float]
    confusion: Confusion


def evaluate(
    forward: Callable[[Tensor], Tensor],
    images: Images,
    *,
    normalize: Normalize,
    batch_size: int,
    compute: Compute,
) -> Evaluation:
    """Mean cross-entropy (nats), top-1 and top-5 accuracy in [0, 1] over all images, and by class.

    With five classes or fewer every label is among the top five, and that figure is left out.
    Ranks share the images; one that has none of them waits for the others.

    Args:
        forward: Images to logits, in evaluation mode.
        images: The data set.
        normalize: Applied to the images.
        batch_size: How many at once.
        compute: Device and precision.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=compute.device)
    num_classes = images.num_classes
    counts = torch.zeros(num_classes**2, dtype=torch.int64, device=compute.device)
    ranks = compute.ranks
    mine, layout = images, compute.channels_last
    if ranks.size > 1:
        mine = images.select(torch.arange(len(images))[ranks.rank :: ranks.size])
    batches: Iterable[tuple[Tensor, Tensor]] = ()
    if len(mine) or len(images) == 0:
        batches = evaluation_batches(
            mine, batch_size=batch_size, normalize=normalize, channels_last=layout
        )
    with torch.no_grad():
        for x, labels in batches:
            with compute.forward_pass():
                logits = forward(x)
            logits = full_precision(logits)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            top1, top5 = (count_correct(logits, labels, top=top) for top in (1, 5))
            sums += torch.stack([loss.double(), top1.double(), top5.double()])
            pairs = num_classes * labels + logits.topk(1).indices[:, 0]
            counts += torch.bincount(pairs, minlength=num_classes**2)
    ranks.add_([sums, counts])
    loss, top1, top5 = (sums / len(images)).tolist()
    confusion = Confusion(counts.view(num_classes, num_classes).cpu(), images.classes)
    metrics = {"loss": loss, "accuracy": top1, "balanced_accuracy": confusion.balanced_accuracy}
    return Evaluation(metrics | ({"accuracy_top5": top5} if num_classes > 5 else {}), confusion)


def random_images(
    images: Images, normalize: Normalize, *, count: int, seed: int, device: torch.device
) -> Float[Tensor, "batch channels height width"]:
    """`count` different images, normalised: a function of the seed.

    A smaller count gives the first images of a larger one. Copies of a picture are passed over,
    because a kernel of equal samples is singular whatever the network is: where the set has fewer
    different pictures, there is one of each. Equal pictures are taken from a set that has no other.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    different: dict[bytes, int] = {}
    for i in order.tolist():
        (pixels,) = images.pixels(torch.tensor([i], device=images.labels.device))
        different.setdefault(pixels.cpu().numpy().tobytes(), i)
        if len(different) == count:
            break
    chosen = torch.tensor([*different.values()]) if len(different) > 1 else order[:count]
    pixels = images.pixels(chosen.to(images.labels.device))
    return normalize.to(device)(pixels.to(device))


def batch_metrics(prefix: str, logits: Tensor, batch: Batch) -> dict[str, tuple[Tensor, int]]:
    """Loss and accuracy on a batch, as sums, with the number of images that count."""
    count = len(batch.labels) if batch.counts else 0
    logits, labels = logits[:count], batch.labels[:count]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return {
        f"{prefix}/loss": (loss, count),
        f"{prefix}/accuracy": (count_correct(logits, labels), count),
    }


class BatchLoss:
    """Cross-entropy of a supernet on one batch, as a function of (weights, mixture).

    It remembers the logits of its last call, so that metrics cost no further pass. Where ranks
    share the batch, gradients are those of the whole; so is the value where none are recorded,
    else it is that of this rank's part. `scale` keeps float16's gradients in range, unchanged.
    `weights` are those of the supernet, which stand still in `at_rest`.
    """

    def __init__(
        self,
        supernet: SuperNet,
        norms: Sequence[Tracked],
        batch: Batch,
        compute: Compute,
        weights: Iterable[Tensor],
        scale: float = 1.0,
    ) -> None:
        self.supernet = supernet
        self.norms = norms
        self.batch = batch
        self.compute = compute
        self.scale = scale
        self.weights = weights
        self.logits: Tensor | None = None

    def __call__(self, weights: Weights, mixture: Mixture) -> Tensor:
        """Mean loss; running statistics of the norms stay as they are."""
        weights = dict(zip(weights, self._entering([*weights.values()]), strict=True))

        def run(images: Tensor, mixture: Mixture) -> Tensor:
            return functional_call(self.supernet, weights, (images, mixture), tie_weights=False)

        return self._loss(run, mixture)

    def at_rest(self, mixture: Mixture) -> Tensor:
        """The same at the supernet's own weights, which collect no gradient."""
        with _standing(self.weights):
            return self._loss(self.supernet, mixture)

    def _loss(self, run: Callable[[Tensor, Mixture], Tensor], mixture: Mixture) -> Tensor:
        ranks = self.compute.ranks
        mixture = mixture.with_leaves(self._entering(mixture.leaves()))
        with untouched_statistics(self.norms), self.compute.forward_pass():
            logits = run(self.batch.images, mixture)
        logits = full_precision(logits)
        self.logits = logits.detach()
        loss = batch_loss(logits, self.batch) * self.batch.weight
        if not torch.is_grad_enabled():
            ranks.average_([loss])
        return with_scaled_gradients([loss], self.scale)[0]

    def _entering(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        if self.compute.ranks.size == 1 and self.scale == 1:
            return tensors
        tensors = with_mean_gradients(tensors, self.compute.ranks)
        return with_scaled_gradients(tensors, 1 / self.scale)

    def value(self) -> Tensor:
        """This rank's part of the loss in the last call."""
        assert self.logits is not None
        return batch_loss(self.logits, self.batch)


@contextlib.contextmanager
def _standing(weights: Iterable[Tensor]) -> Iterator[None]:
    """Weights collect no gradient in what is computed inside."""
    learning = [weight for weight in weights if weight.requires_grad]
    try:
        for weight in learning:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)
