"""A supernet as its diagnostics and its selection see it: trained weights, nothing moves."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from darts_gdas.nets import Mixture, SuperNet
from darts_gdas.nets.statistics import Tracked, untouched_statistics
from darts_gdas.nets.synced import by_itself
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.data import Batch, ReadAhead, derive_seed
from darts_gdas.search import ArchParameters, Relaxation
from darts_gdas.search.curvature import dominant_eigenvalue, hessian_product
from darts_gdas.tasks.batches import BatchLoss, count_correct, full_precision
from darts_gdas.tasks.method import SearchData


class SupernetProbe:
    """Measures a supernet on the arch half, without augmentation.

    The norms normalise with the batch, as in training, because other mixtures than the trained
    one are asked for: the running statistics of the whole mixture do not fit what is left of it.
    They stay as they are, and so does every random number of the search. No other rank is waited
    for. The batches are the same in all measurements of a run, random ones of about the training's
    size.

    Args:
        supernet: What to measure; it is left in training mode.
        norms: All of its norms that keep statistics.
        data: The halves.
        compute: How to run it.
        seed: The run's seed.
    """

    def __init__(
        self,
        supernet: SuperNet,
        norms: Sequence[Tracked],
        data: SearchData,
        compute: Compute,
        seed: int,
    ) -> None:
        self.supernet = supernet
        self.norms = norms
        self.images = data.validation
        self.normalize = data.normalize.to(compute.device)
        self.compute = compute
        self.seed = derive_seed(seed, "probe")
        number = max(len(self.images) // data.weight_batches.batch_size, 1)
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(self.seed))
        order = order.to(self.images.labels.device)
        self._indices = order.tensor_split(number)  # none much smaller

    @property
    def num_batches(self) -> int:
        """Batches of the half."""
        return len(self._indices)

    def batches(self, count: int | None = None) -> Iterator[Batch]:
        """The first `count` batches, or all."""
        indices = self._indices[:count]
        read = ReadAhead(self.images, len(indices))
        for number in range(len(indices)):
            images, labels = read(number, indices.__getitem__)
            if self.compute.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            yield Batch(self.normalize(images), labels)

    def accuracy(self, mixture: Mixture, between: Callable[[], None] = lambda: None) -> float:
        """Share of the arch half that the supernet gets right under a mixture.

        Args:
            mixture: Which.
            between: Called after each batch, for whoever may want to leave.
        """
        mixture = mixture.with_leaves([leaf.to(self.compute.device) for leaf in mixture.leaves()])
        self.supernet.train()
        correct = torch.zeros((), dtype=torch.long, device=self.compute.device)
        with torch.no_grad(), untouched_statistics(self.norms), by_itself(self.supernet):
            for images, labels, *_ in self.batches():
                with self.compute.forward_pass():
                    logits = self.supernet(images, mixture)
                correct += count_correct(full_precision(logits), labels)
                between()
        return float(correct) / len(self.images)

    def curvature(
        self, alphas: ArchParameters, relaxation: Relaxation, *, num_batches: int
    ) -> float:
        """Dominant eigenvalue of the Hessian of the validation loss in the alphas, weights fixed.

        That of largest magnitude. The loss is that of the relaxation's mean mixture: a sampled
        path's loss is no smooth function of the alphas, its expectation's is.

        Args:
            alphas: What the loss is a function of.
            relaxation: From the alphas to a mixture.
            num_batches: Batches to average the loss over. Zela et al. take one.

        Reference:
            Zela et al., ICLR 2020, https://arxiv.org/abs/1909.09656, section 4.1.
        """
        mean = _MeanMixture(alphas, relaxation)
        names = [name for name, _ in mean.named_parameters()]
        weights = {name: w.detach() for name, w in self.supernet.named_parameters()}
        losses = [
            BatchLoss(self.supernet, self.norms, batch, self.compute, weights.values())
            for batch in self.batches(num_batches)
        ]
        self.supernet.train()

        def loss(values: Sequence[Tensor]) -> Tensor:
            mixture: Mixture = functional_call(mean, dict(zip(names, values, strict=True)), ())
            return torch.stack([of_batch(weights, mixture) for of_batch in losses]).mean()

        size = sum(p.numel() for p in mean.parameters())
        generator = torch.Generator().manual_seed(self.seed)
        start = torch.randn(size, generator=generator, dtype=torch.float64)
        with by_itself(self.supernet):
            product = hessian_product(loss, [p for _, p in mean.named_parameters()])
            # The distance to an eigenvector enters the value squared: this is 1e-4 of it.
            return dominant_eigenvalue(product, start, tolerance=1e-2)


class _MeanMixture(nn.Module):
    """The mean mixture as a function of the alphas, differentiable."""

    def __init__(self, alphas: ArchParameters, relaxation: Relaxation) -> None:
        super().__init__()
        self.alphas = alphas
        self.relaxation = relaxation

    def forward(self) -> Mixture:
        return self.relaxation.mean(self.alphas)
