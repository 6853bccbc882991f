"""The layers whose gradients are known by formula, and calls of them cut off from their weights."""

import contextlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from darts_gdas.ntk.layers import Convolution, fixed_statistics

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
OWN_STATISTICS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Unsupported(ValueError):
    """The network has something that a method cannot take."""


@dataclass(slots=True)
class Use:
    """One call of a layer.

    Attributes:
        name: Of the layer.
        layer: The layer.
        selected: Names of its selected parameters by their role, weight or bias.
        inputs: What entered it.
        version: How often that had been changed then.
        places: At how many tokens or pixels of a sample its weight is used alike; none where it is
            no such layer.
        output: What it put out, in the graph.
    """

    name: str
    layer: nn.Module
    selected: Mapping[str, str]
    inputs: Tensor
    version: int
    places: int
    output: GradientEdge

    def read_inputs(self) -> Tensor:
        """What entered the layer, if it still is what it was."""
        if self.inputs._version != self.version:
            raise Unsupported(f"what enters layer {self.name!r} is changed in place afterwards")
        return self.inputs

    @property
    def enters_once(self) -> bool:
        """A linear layer that sees each sample as one vector."""
        return isinstance(self.layer, nn.Linear) and self.places == 1

    def by_place(self, gradient: Tensor) -> Float[Tensor, "rows places out_features"]:
        """Gradients of the outputs."""
        if isinstance(self.layer, nn.Linear):
            return gradient.reshape(len(gradient), self.places, -1)
        return gradient.flatten(2).mT


@dataclass(slots=True)
class Record:
    """The calls of one forward pass, and its output."""

    samples: int
    uses: list[Use] = field(default_factory=list)
    output: Tensor = field(default_factory=lambda: torch.empty(0))


def places(layer: nn.Module, output: Tensor) -> int:
    """At how many tokens or pixels of a sample a layer's weight is used alike, or 0."""
    if isinstance(layer, nn.Linear):
        return output[0].numel() // layer.out_features
    if isinstance(layer, nn.Conv2d) and layer.groups == 1:
        return output[0].numel() // layer.out_channels
    return 0


def is_known_layer(module: nn.Module) -> bool:
    """Whether it is one of the layers above, with weights of its own that nothing else makes.

    A subclass of a linear layer or convolution is one if it computes by its base's functions.
    What another subclass computes can be like its base on some samples and not on others, so that
    no trial would tell. An average pooling, which has no weights, is known as well.
    """
    if {"forward", "_conv_forward"} & vars(module).keys() or is_parametrized(module):
        return False
    if type(module) in (*OWN_STATISTICS, nn.AvgPool2d):
        return True
    if type(module) is nn.Embedding:
        return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
    if type(module) in NORMS:
        return not module.training and module.running_mean is not None
    if not isinstance(module, LAYERS) or not set(module._parameters) <= {"weight", "bias"}:
        return False
    if isinstance(module, Convolution) and (
        module.padding_mode != "zeros" or isinstance(module.padding, str)
    ):
        return False
    return _computes_as_its_base(type(module))


def base_of(kind: type[nn.Module]) -> type[nn.Module]:
    """The library's linear layer or convolution from which a class is derived."""
    return next(known for known in LAYERS if issubclass(kind, known))


def _computes_as_its_base(kind: type[nn.Module]) -> bool:
    """Whether a layer's class leaves `forward` alone, or is one of this package's, all plain."""
    base = base_of(kind)
    for name in ("forward", "_conv_forward"):
        own = getattr(kind, name, None)
        if own is not getattr(base, name, None) and not _is_ours(own):
            return False
    return True


def _is_ours(function: Any) -> bool:
    return function.__module__.partition(".")[0] == __name__.partition(".")[0]


def call_without_weights(layer: nn.Module, x: Tensor) -> Tensor:
    """The output of a known layer, a function of its input alone: weights count as constants."""
    if isinstance(layer, _BatchNorm):
        return _fixed_norm(layer, x)
    parameters = layer._parameters.items()
    with _weights(layer, {role: p if p is None else p.detach() for role, p in parameters}):
        return type(layer).forward(layer, x)


def reached(output: Tensor, wanted: Container[int]) -> set[int]:
    """Which leaves an output's graph reaches, of those with some identities."""
    found, seen, stack = set(), set(), [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = id(getattr(node, "variable", None))
        if leaf in wanted:
            found.add(leaf)
        stack += [following for following, _ in node.next_functions]
    return found


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
    mean, inverse = fixed_statistics(norm)
    scale = inverse if norm.weight is None else inverse * norm.weight.detach()
    shift = -mean * scale
    shift = shift if norm.bias is None else shift + norm.bias.detach()
    shape = (1, -1) + (1,) * (x.dim() - 2)
    return torch.addcmul(shift.view(shape), x.to(scale), scale.view(shape)).to(x)
