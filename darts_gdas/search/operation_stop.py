"""Early stopping, operation by operation (OLES): when one begins to fit the training half alone."""

from dataclasses import dataclass


@dataclass
class OperationStop:
    """Which operations of the supernet stop learning, and when.

    An operation whose gradients on the two halves of the data do not point the same way learns what
    does not generalise; its weights then stop, and the alphas go on. Watching costs one more
    forward and backward pass per step.

    Attributes:
        threshold: The cosine between both gradients below which an operation stops, as a mean
            over `steps` of its steps. The authors take 0.4; at -1 nothing is measured or stopped.
        steps: Steps of an operation from one decision to the next. The authors take 20.

    Reference:
        Jiang et al., NeurIPS 2023, https://openreview.net/forum?id=yAOwkf4FyL, algorithm 1.
    """

    threshold: float = -1.0
    steps: int = 20

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise ValueError(f"operation_stop.threshold must lie in -1..1, got {self.threshold}")
        if self.steps < 1:
            raise ValueError(f"operation_stop.steps must be at least 1, got {self.steps}")

    @property
    def watches(self) -> bool:
        """Whether anything is measured."""
        return self.threshold > -1
