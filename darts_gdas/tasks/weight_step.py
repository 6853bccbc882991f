"""A step of the weights, of a supernet or a derived network, by itself or over ranks."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from darts_gdas.nets.statistics import running_statistics
from darts_gdas.runtime.checkpoint import State
from darts_gdas.runtime.compute import Compute, Precision
from darts_gdas.runtime.data import Batch
from darts_gdas.runtime.finite import FiniteGuard
from darts_gdas.runtime.optim import SGD
from darts_gdas.runtime.replica import Replica

Run = Callable[[Batch, bool], tuple[Tensor, Tensor]]
"""(images, whether more are to follow) -> mean loss, logits."""

SMALLEST_SCALE = 1.0
"""The smallest scale of a float16 loss. If gradients overflow at that, scaling is not the cause."""


class WeightStep:
    """SGD on a module: forward and backward pass in parts, the same gradient on all ranks, a step.

    In float16 the loss is scaled, so that small gradients are not rounded to zero; where one
    overflows, the step is left out and the scale halved, as usual.

    Args:
        module: What is trained; on its device.
        sgd: How.
        compute: Device, precision, ranks.
        guard: What happens where a gradient is not finite; by default the run stops.
        accumulate: Parts of a batch that pass one after the other: the memory of one, the
            gradient of all. Norms see each part by itself.

    Attributes:
        optimizer: The optimiser.
        replica: The module as it is called in training.
    """

    def __init__(
        self,
        module: nn.Module,
        sgd: SGD,
        compute: Compute,
        guard: FiniteGuard | None = None,
        accumulate: int = 1,
    ) -> None:
        self.module = module
        self.sgd = sgd
        self.guard = guard or FiniteGuard(ranks=compute.ranks)
        self.accumulate = accumulate
        self.replica = Replica(module, compute.ranks, running_statistics(module))
        self.optimizer = sgd.build(module.parameters())
        self.scaler = torch.amp.GradScaler(
            compute.device.type, enabled=compute.precision is Precision.fp16
        )

    def __call__(self, batch: Batch, run: Run) -> Tensor:
        """One step; returns the logits from before it.

        Args:
            batch: This rank's images.
            run: Calls the replica.
        """
        parts = split(batch, self.accumulate)
        outputs, total = [], torch.zeros((), device=batch.labels.device)
        for i, part in enumerate(parts):
            loss, logits = run(part, i + 1 < len(parts))
            loss = loss * part.weight
            self.scaler.scale(loss).backward()
            total = total + loss.detach()
            outputs.append(logits.detach())
        self.replica.finish()
        self.scaler.unscale_(self.optimizer)

        def passes(norm: Tensor) -> bool:
            if self.overflows(norm):
                return False
            return self.guard.passes(
                "weight step", norm, loss=lambda: total, gradients=self._gradients
            )

        self.sgd.step(self.optimizer, passes)
        self.scaler.update()
        return torch.cat(outputs)

    @property
    def scale(self) -> float:
        """What the loss is multiplied with; 1 unless in float16."""
        return self.scaler.get_scale() if self.scaler.is_enabled() else 1.0

    def halve_scale(self) -> None:
        """After an overflow elsewhere."""
        self.scaler.update(self.scale / 2)

    def overflows(self, norm: Tensor) -> bool:
        """Whether a gradient is beyond float16's range under the present scale."""
        return self.scale > SMALLEST_SCALE and not bool(torch.isfinite(norm))

    def _gradients(self) -> dict[str, Tensor | None]:
        return {name: parameter.grad for name, parameter in self.module.named_parameters()}

    def state_dict(self) -> State:
        """The state of the optimiser and the scale."""
        return {"optimizer": self.optimizer.state_dict(), "scale": self.scaler.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Inverse of `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scale"])


def split(batch: Batch, count: int) -> list[Batch]:
    """A batch in parts of at least two images, weighted so that their sum is the whole's mean.

    All ranks have the same number of parts, also where one has an image more than another.
    """
    fewest = int(len(batch.labels) / batch.weight + 0.001)  # images of any rank
    count = max(min(count, fewest // 2, len(batch.labels) // 2), 1)  # the latter in a small batch
    if count == 1:
        return [batch]
    parts = zip(batch.images.tensor_split(count), batch.labels.tensor_split(count), strict=True)
    importance = (
        [None] * count if batch.importance is None else batch.importance.tensor_split(count)
    )
    return [
        Batch(images, labels, batch.weight * len(labels) / len(batch.labels), batch.counts, some)
        for (images, labels), some in zip(parts, importance, strict=True)
    ]
