"""Dropout of whole paths in a retraining, and behind skip connections in a search (P-DARTS).

The latter keeps the search from leaning on them. Its masks are a function of a seed and of a place,
as those of `nets.noise` are, and for the same reason: all passes of one step must see the same
ones, a cell and its recomputation in the backward pass too, and a resumed run must draw what it
would have drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "batch channels height width"]


@dataclass(frozen=True, slots=True)
class SkipDropout:
    """Zero each element that leaves a skip connection with a probability; scale up the others.

    It takes skip connections that hand on their input, not those that halve it: they have weights.
    Every edge has masks of its own. Expectations stay as they are.

    Attributes:
        rate: The probability, in [0, 1).
        seed: Determines the masks of one training step.

    Reference:
        Chen et al., ICCV 2019, https://arxiv.org/abs/1904.12760, section 3.3.
    """

    rate: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"the rate of a dropout must lie in [0, 1), got {self.rate}")

    def of_cell(self, position: int) -> "SkipDropout":
        """The same with masks of its own for the cell at this position in the network."""
        return replace(self, seed=(self.seed + position) % 2**63)

    def start(self, device: torch.device) -> Callable[[Images], Images]:
        """What one pass through a cell calls for one skip connection after the other."""
        rng = torch.Generator(device).manual_seed(self.seed)
        keep = 1.0 - self.rate

        def drop(x: Images) -> Images:
            mask = torch.empty_like(x, requires_grad=False).bernoulli_(keep, generator=rng)
            return x * mask.div_(keep)

        return drop


def path_factors(
    num_paths: int, batch: int, probability: float, *, like: Tensor
) -> Float[Tensor, "paths batch 1 1 1"]:
    """Drop-path: what each path of each sample is multiplied by.

    Zero with the given probability, else 1 / (1 - probability), which keeps the mean. All paths
    are drawn in one call.

    Args:
        num_paths: How many paths can be dropped.
        batch: Samples.
        probability: Chance that one sample loses one path.
        like: Gives number format and device.

    Raises:
        ValueError: If the probability is not in [0, 1).

    Reference:
        Larsson et al., ICLR 2017, https://arxiv.org/abs/1605.07648; per sample as in
        Zoph et al., CVPR 2018.
    """
    if not 0 <= probability < 1:
        raise ValueError(f"the probability of drop-path must lie in [0, 1), got {probability}")
    keep = 1.0 - probability
    return like.new_empty(num_paths, batch, 1, 1, 1).bernoulli_(keep) / keep
