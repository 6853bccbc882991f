"""What is measured while a search runs, as the user asks for it."""

from dataclasses import dataclass

from darts_gdas.reasons import check_minima


@dataclass
class Diagnostics:
    """What is measured while a search runs, and whether it stops by itself.

    Shares of operations cost nothing and are always there. Nothing that is measured changes the
    search; only `stop_below` ends it.

    Attributes:
        eigenvalue_every: Epochs between two measurements of the dominant eigenvalue of the
            Hessian of the validation loss in the alphas; 0 never measures it. Each takes the
            time of 5 to 10 training steps, and the memory of a double backward pass.
        eigenvalue_batches: Batches of the arch half to measure it on; memory grows with them.
        gap_every: Epochs between two measurements of the discretisation gap: accuracy of the
            mixture minus accuracy of its genotype, both under shared weights; 0 never does.
        stop_below: Stop when the curvature was so much smaller before: the ratio of its mean over
            a window to its mean over the next one. RobustDARTS takes 0.75; 0 never stops.
        stop_window: Measurements in a window; RobustDARTS takes 5.
        stop_first_epoch: Return no architecture of an earlier epoch, counted from 0. The
            authors' code takes 10.

    Reference:
        Zela et al., ICLR 2020, https://arxiv.org/abs/1909.09656, section 4.3.
    """

    eigenvalue_every: int = 0
    eigenvalue_batches: int = 1
    gap_every: int = 0
    stop_below: float = 0.0
    stop_window: int = 5
    stop_first_epoch: int = 10

    def __post_init__(self) -> None:
        minima = {
            "eigenvalue_every": 0, "eigenvalue_batches": 1, "gap_every": 0, "stop_window": 1,
            "stop_first_epoch": 0,
        }  # fmt: skip
        check_minima(self, "diagnostics.", minima)
        if not 0 <= self.stop_below <= 1:
            raise ValueError(f"diagnostics.stop_below must lie in 0..1, got {self.stop_below}")
        if self.stop_below and not self.eigenvalue_every:
            raise ValueError(
                "diagnostics.stop_below has no effect without the eigenvalue; set "
                "diagnostics.eigenvalue_every=1"
            )

    def epochs_to_stop(self, arch_warmup_epochs: int = 0) -> int:
        """The fewest epochs with which an early stop can come: two windows, late enough.

        Args:
            arch_warmup_epochs: Epochs without arch steps, which no window counts.
        """
        window, every = self.stop_window, self.eigenvalue_every
        returned, moved = (
            -(-(epoch + 1) // every) - 1 for epoch in (self.stop_first_epoch, arch_warmup_epochs)
        )  # the first measurements that may be: returned; of alphas that move
        return every * (2 * window + max(0, returned - window // 2, moved))
