"""Random weights of a chosen variance, the same rule for every layer."""

import math
from collections.abc import Iterator
from enum import Enum

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class Fan(Enum):
    """What a weight's variance is divided by, k^2 being the pixels of a kernel.

    Attributes:
        IN: Inputs of a unit, (in_channels / groups) k^2; k^2 for a depthwise convolution. Keeps
            the size of activations from layer to layer.
        OUT: out_channels k^2, as in `torch.nn.init`, which does not divide it by groups. Keeps the
            size of gradients, except in grouped convolutions, whose weights come out smaller.
    """

    IN = "fan_in"
    OUT = "fan_out"


def initialize(
    net: nn.Module,
    weight_variance: float,
    *,
    bias_variance: float = 0.0,
    mode: Fan = Fan.IN,
    generator: Generator | None = None,
) -> None:
    """Draw all weights of convolutions and linear layers anew, in place, from normals.

    Scores of untrained networks compare only under one known initialisation; mean-field theory
    says which variance lets signals travel deep (`darts_gdas.ntk.critical_weight_variance`: 2 for
    ReLU, which is He initialisation). Norms become identities with fresh running statistics.

    Args:
        net: Any network of convolutions, linear layers and norms.
        weight_variance: Var(W) times the fan. TE-NAS uses 2 with `Fan.OUT` for its kernel, with
            `Fan.IN` for its regions (Chen et al., ICLR 2021).
        bias_variance: Variance of the biases of convolutions and linear layers; 0 sets them to 0.
        mode: Which fan.
        generator: Its device draws; None is torch's global one and the parameters' device.

    Raises:
        ValueError: If a variance has no meaning, or the network has other kinds of parameters;
            nothing has changed then.
    """
    if not 0 < weight_variance < math.inf:
        raise ValueError(
            f"weight_variance must be positive and finite, got {weight_variance}; for ReLU "
            "networks use 2"
        )
    if not 0 <= bias_variance < math.inf:
        raise ValueError(f"bias_variance must be finite and >= 0, got {bias_variance}")
    _refuse_others(net)
    with torch.no_grad():
        for layer in _layers(net):
            fan = layer.weight[0].numel()
            if mode is Fan.OUT:
                fan = layer.weight.shape[0] * layer.weight[0, 0].numel()
            _draw(layer.weight, weight_variance / fan, generator)
            if layer.bias is not None:
                _draw(layer.bias, bias_variance, generator)
    for norm in net.modules():
        if isinstance(norm, _NORMS):
            norm.reset_parameters()  # a batch norm's statistics, too


def _draw(parameter: Tensor, variance: float, generator: Generator | None) -> None:
    if variance == 0:
        parameter.zero_()
        return
    device = parameter.device if generator is None else generator.device
    noise = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
    parameter.copy_(noise.normal_(std=math.sqrt(variance), generator=generator))


def _layers(net: nn.Module) -> Iterator[_ConvNd | nn.Linear]:
    for module in net.modules():
        if isinstance(module, _ConvNd | nn.Linear):
            yield module


def _refuse_others(net: nn.Module) -> None:
    """Raise if a parameter belongs to a module whose initialisation is not known here."""
    for name, module in net.named_modules():
        is_known = isinstance(module, (_ConvNd, nn.Linear, *_NORMS))
        is_known &= not isinstance(module, _ConvTransposeNd)
        if not is_known and any(True for _ in module.parameters(recurse=False)):
            raise ValueError(
                f"cannot initialise the parameters of {name or 'the network'} "
                f"({type(module).__name__}): only convolutions, linear layers and norms are known"
            )
