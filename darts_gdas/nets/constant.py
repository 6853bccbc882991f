"""Constants of a space as tensors, which stay on the device."""

from functools import lru_cache

import torch
from torch import Tensor

Values = tuple[int, ...] | tuple[tuple[float, ...], ...]


@lru_cache(maxsize=256)
def constant(values: Values, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers as a tensor, copied once: each copy would wait, and no CUDA graph can hold one.

    Args:
        values: A vector or a matrix.
        dtype: Of the tensor.
        device: Where it stays; whoever gets it leaves it as it is.
    """
    with torch.inference_mode(False):  # may be needed by a backward pass later
        return torch.tensor(values, dtype=dtype, device=device)
