"""Number formats and memory layouts of images."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

_AUTOCAST = ("cpu", "cuda")
"""Devices that have it; `meta` has none. torch 2.11 cannot compile its own answer."""


def autocasts(device: torch.device) -> bool:
    """Whether operations choose their number format by themselves there."""
    return device.type in _AUTOCAST and torch.is_autocast_enabled(device.type)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Inside it the number formats are those of the operations' inputs."""
    return torch.autocast(device.type, enabled=False) if autocasts(device) else nullcontext()


def channels_last(x: Tensor) -> Tensor:
    """The same images, the channels of a pixel side by side in memory; works inside `vmap`."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
