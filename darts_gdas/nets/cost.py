"""What a network costs: parameters and multiply-adds."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(net: nn.Module) -> int:
    """Numbers learnt, without an auxiliary head: it is not there when the network is used."""
    return sum(
        parameter.numel()
        for name, parameter in net.named_parameters()
        if not name.startswith("auxiliary.")
    )


def count_multiply_adds(net: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-adds of convolutions and linear layers for one image, in evaluation.

    Computed on shapes alone (the "meta" device); the network is left as it was.

    Args:
        net: Takes images [batch, channels, height, width].
        image_shape: (channels, height, width).
    """
    shapes_only = copy.deepcopy(net).to("meta").eval()
    counter = FlopCounterMode(display=False)
    # The counter sees operations; compiled code has none.
    with torch.compiler.set_stance("force_eager"), counter, torch.no_grad():
        shapes_only(torch.empty(1, *image_shape, device="meta"))
    return counter.get_total_flops() // 2
