"""Noise as an operation: random numbers that are a function of a key, a count and a position.

Drawn from torch's global generator, noise would differ between the passes of one step (a finite
difference of them would measure the noise), between a cell and its recomputation in the backward
pass, and after a resumed run. Here a hash of integers takes the generator's place. Everything is
tensor arithmetic, so it runs on any device, compiled, exported and inside `vmap`.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

_BITS = 0xFFFFFFFF


class Noise(nn.Module):
    """Standard normal noise in place of the input: the harmful candidate of space S4.

    Two passes draw the same unless a training pass that moves the running statistics of norms lies
    between them: `draws` counts those, and moves, stands still and is saved as statistics do. So in
    evaluation the noise is fixed. Under `vmap` every sample is the first of its batch.

    Attributes:
        key: Tells one module's noise from another's; from torch's global generator, as weights are.
        draws: Number of training passes so far.
        track_running_stats: Whether training passes count, named as in batch norms.

    Reference:
        Zela et al., ICLR 2020, https://arxiv.org/abs/1909.09656, section 3 (S4).
    """

    key: Tensor
    draws: Tensor

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.track_running_stats = True
        self.register_buffer("key", torch.randint(2**32, ()))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels out_height out_width"]:
        """Noise in the shape of the other candidates' outputs."""
        shape = x[:, :, :: self.stride, :: self.stride].shape
        noise = standard_normal(shape, scrambled(self.key ^ scrambled(self.draws))).to(x.dtype)
        if self.training and self.track_running_stats:
            self.draws.add_(1)
        return noise


def noises(module: nn.Module) -> list[Noise]:
    """All noise inside a module."""
    return [part for part in module.modules() if isinstance(part, Noise)]


def standard_normal(shape: torch.Size, key: Tensor) -> Float[Tensor, "batch channels height width"]:
    """Independent normals, a function of key and position, channels last in memory.

    Inverse of the normal's distribution function at the odd multiples of 2^-24 in (-1, 1), which
    float32 holds exactly; the largest value is 5.3.

    Args:
        shape: [batch, channels, height, width].
        key: 32 bits.
    """
    batch, channels, height, width = shape
    position = torch.arange(batch * channels * height * width, device=key.device)  # any batch
    odd = 2 * (scrambled(scrambled(position) ^ key) >> 8) + 1 - 2**24
    normal = 2**0.5 * torch.erfinv(odd.float() * 2.0**-24)
    return normal.view(batch, height, width, channels).permute(0, 3, 1, 2)


def scrambled(x: Tensor) -> Tensor:
    """A bijection of 32 bits that leaves no visible order; int64 in, int64 out.

    Products of 32 and 27 bits stay below 2^63.
    """
    x = x & _BITS
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & _BITS
    return cast(Tensor, x ^ (x >> 16))
