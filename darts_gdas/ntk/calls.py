"""The layers whose gradients are known by formula, and calls of them cut off from their weights."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from darts_gdas.ntk.checks import unequal
from darts_gdas.ntk.layers import Convolution

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
OWN_STATISTICS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Unsupported(ValueError):
    """The network has something that a method cannot take."""


def is_known_layer(module: nn.Module) -> bool:
    """Whether it is one of the layers above, with weights of its own that nothing else makes.

    Subclasses of linear layers and convolutions pass here; `check_plain` tries them.
    """
    if {"forward", "_conv_forward"} & vars(module).keys() or is_parametrized(module):
        return False
    if type(module) in OWN_STATISTICS:
        return True
    if type(module) is nn.Embedding:
        return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
    if type(module) in NORMS:
        return not module.training and module.running_mean is not None
    if not isinstance(module, LAYERS) or not set(module._parameters) <= {"weight", "bias"}:
        return False
    if isinstance(module, Convolution):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return True


def call_without_weights(layer: nn.Module, x: Tensor) -> Tensor:
    """The output of a known layer, a function of its input alone: weights count as constants."""
    if isinstance(layer, _BatchNorm):
        return _fixed_norm(layer, x)
    parameters = layer._parameters.items()
    with _weights(layer, {role: p if p is None else p.detach() for role, p in parameters}):
        return type(layer).forward(layer, x)


def check_plain(name: str, layer: nn.Module, x: Tensor) -> None:
    """Raise `Unsupported` unless a subclass computes what its base class computes.

    Its values and the gradients of its weights are compared on `x`, whatever it calls on the way.
    The gradients matter by themselves: a convolution that standardises its weight leaves one that
    is standard already as it is, but not its gradient.
    """
    if type(layer) in (*LAYERS, *NORMS, *OWN_STATISTICS, nn.Embedding, nn.AvgPool2d):
        return
    base = next(kind for kind in LAYERS if isinstance(layer, kind))
    plain: Any = copy.copy(layer)
    plain.__class__ = base
    plain.__dict__.pop("forward", None)
    # The copy has a dictionary of parameters of its own.
    plain._parameters = dict(layer._parameters)
    found = _with_gradients(layer, type(layer), x.detach())
    expected = _with_gradients(plain, base, x.detach())
    if not all(map(_is_close, found, expected)):
        raise Unsupported(f"layer {name!r} ({type(layer).__name__}) is no plain {base.__name__}")


def _with_gradients(layer: nn.Module, kind: Any, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of the weights under a cotangent without symmetries."""
    leaves = {
        role: None if p is None else p.detach().clone().requires_grad_()
        for role, p in layer._parameters.items()
    }
    with torch.enable_grad(), _weights(layer, leaves):
        y = kind.forward(layer, x)
        weights = [leaf for leaf in leaves.values() if leaf is not None]
        gradients = torch.autograd.grad(
            y, weights, unequal(y), allow_unused=True, materialize_grads=True
        )
    return [y.detach(), *gradients]


def _is_close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    tolerance = 1e3 * torch.finfo(a.dtype).eps
    scale = float(b.abs().max()) if b.numel() else 0.0
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * scale)


@contextlib.contextmanager
def _weights(layer: nn.Module, values: dict[str, Any]) -> Iterator[None]:
    """The layer computes with other tensors in place of its parameters."""
    parameters = dict(layer._parameters)
    try:
        layer._parameters.update(values)
        yield
    finally:
        layer._parameters.update(parameters)


def _fixed_norm(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Batch norm with fixed statistics as one multiply-add, whose backward pass is cheaper."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    shift = shift if norm.bias is None else shift + norm.bias.detach()
    shape = (1, -1) + (1,) * (x.dim() - 2)
    return torch.addcmul(shift.view(shape), x, scale.view(shape))
