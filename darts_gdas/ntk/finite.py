"""Networks of finite width in the parametrisation in which width has a limit."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from darts_gdas.ntk.checks import check_count
from darts_gdas.ntk.infinite import (
    Conv,
    Dense,
    Flatten,
    GlobalAverage,
    Nonlinearity,
    WideLayer,
    check_layers,
)
from darts_gdas.ntk.moments import activation
from darts_gdas.reasons import reason


class _Map(nn.Module):
    """A function without weights."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class _Bias(nn.Module):
    """A standard normal bias for every channel, scaled where it is added."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale, self.bias = scale, nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.bias.view(-1, *(1,) * (x.ndim - 2))


def finite_network(
    layers: Sequence[WideLayer],
    input_shape: Sequence[int],
    width: int,
    *,
    num_outputs: int = 1,
) -> nn.Sequential:
    """A random network of a width, whose kernels tend to `infinite_kernels` as the width grows.

    All weights are standard normal; inputs of a layer are scaled by
    sqrt(weight_variance / fan_in), so gradients have the scale that makes the tangent kernel
    independent of the width.

    Args:
        layers: As for `infinite_kernels`.
        input_shape: Of one sample, (features,) or (channels, height, width).
        width: Features or channels of every layer but the last.
        num_outputs: Of the last layer.

    Raises:
        ValueError: For a width or a number of outputs below 1, or layers that do not fit.

    Example:
        >>> net = finite_network([Dense(), Nonlinearity("erf"), Dense()], (3,), 16)
        >>> net(torch.ones(5, 3)).shape
        torch.Size([5, 1])
    """
    width, num_outputs = check_count("width", width), check_count("num_outputs", num_outputs)
    if not isinstance(input_shape, Sequence) or len(input_shape) not in (1, 3):
        raise ValueError(
            "input_shape must be (features,) or (channels, height, width), without samples, got "
            f"{input_shape!r}"
        )
    check_layers(layers, images=len(input_shape) == 3)
    modules: list[nn.Module] = []
    shape = torch.Size([check_count("input_shape", side) for side in input_shape])
    for place, layer in enumerate(layers, 1):
        channels = num_outputs if place == len(layers) else width
        added = _modules(layer, shape, channels)
        try:
            with torch.no_grad():
                shape = nn.Sequential(*added)(torch.zeros(1, *shape)).shape[1:]
        except (RuntimeError, IndexError) as error:
            raise ValueError(
                f"layer {place}, {layer}, does not fit samples of shape {tuple(shape)}: "
                f"{reason(error)}"
            ) from error
        modules += added
    return nn.Sequential(*modules)


def _modules(layer: WideLayer, shape: torch.Size, channels: int) -> list[nn.Module]:
    if isinstance(layer, Dense):
        linear = nn.Linear(shape[0], channels, bias=False)
        return _scaled(linear, shape[0], layer.weight_variance, layer.bias_variance)
    if isinstance(layer, Conv):
        conv = nn.Conv2d(shape[0], channels, layer.size, layer.stride, layer.padding, bias=False)
        fan_in = shape[0] * layer.size**2
        return _scaled(conv, fan_in, layer.weight_variance, layer.bias_variance)
    if isinstance(layer, Nonlinearity):
        return [_Map(activation(layer.name).function)]
    if isinstance(layer, Flatten):
        return [nn.Flatten()]
    assert isinstance(layer, GlobalAverage), layer
    return [_Map(lambda x: x.mean((2, 3)))]


def _scaled(
    layer: nn.Linear | nn.Conv2d, fan_in: int, weight_variance: float, bias_variance: float
) -> list[nn.Module]:
    scale = math.sqrt(weight_variance / fan_in)
    nn.init.normal_(layer.weight)
    modules: list[nn.Module] = [_Map(lambda x: scale * x), layer]
    if bias_variance > 0:
        modules.append(_Bias(layer.weight.shape[0], math.sqrt(bias_variance)))
    return modules
