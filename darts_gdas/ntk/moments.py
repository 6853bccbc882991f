"""Gaussian expectations of activations, in closed form.

For u, v Gaussian with variances q1, q2 and covariance k: E[phi(u) phi(v)] (`products`) and
E[phi'(u) phi'(v)] (`slopes`), which is the derivative of the first in k.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Moment = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation with its Gaussian expectations.

    Attributes:
        function: Itself.
        products: E[phi(u) phi(v)] from (q1, q2, k).
        slopes: E[phi'(u) phi'(v)] from (q1, q2, k).
    """

    function: Callable[[Tensor], Tensor]
    products: Moment
    slopes: Moment


def _angle(q1: Tensor, q2: Tensor, k: Tensor) -> Tensor:
    sizes = (q1 * q2).sqrt()
    cosine = torch.where(sizes > 0, k / torch.where(sizes > 0, sizes, 1.0), 0.0)
    return cosine.clamp(-1, 1).acos()


def _relu_products(q1: Tensor, q2: Tensor, k: Tensor) -> Tensor:
    """Eqs. (1) and (6), n = 1, of Cho and Saul, NeurIPS 2009."""
    angle = _angle(q1, q2, k)
    return (q1 * q2).sqrt() * (angle.sin() + (math.pi - angle) * angle.cos()) / (2 * math.pi)


def _relu_slopes(q1: Tensor, q2: Tensor, k: Tensor) -> Tensor:
    return (math.pi - _angle(q1, q2, k)) / (2 * math.pi)


def _erf_products(q1: Tensor, q2: Tensor, k: Tensor) -> Tensor:
    """Eq. (11) of Williams, NeurIPS 1996."""
    ratio = 2 * k / ((1 + 2 * q1) * (1 + 2 * q2)).sqrt()
    return 2 / math.pi * ratio.clamp(-1, 1).asin()


def _erf_slopes(q1: Tensor, q2: Tensor, k: Tensor) -> Tensor:
    return 4 / math.pi * ((1 + 2 * q1) * (1 + 2 * q2) - 4 * k.square()).rsqrt()


def _gelu_products(q1: Tensor, q2: Tensor, k: Tensor) -> Tensor:
    """Tsuchida et al., AAAI 2021, https://arxiv.org/abs/2002.08517."""
    ones = (1 + q1) * (1 + q2)
    square = ones - k.square()  # at least 1
    root = square.sqrt()
    inner = (k.square() + q1 * q2 * square) / (ones * root) + k * torch.atan2(k, root)
    return inner / (2 * math.pi) + k / 4


def _gelu_slopes(q1: Tensor, q2: Tensor, k: Tensor) -> Tensor:
    ones = (1 + q1) * (1 + q2)
    square = ones - k.square()
    root = square.sqrt()
    inner = 1 / square + (1 - q1 * q2) / ones + 1
    return 0.25 + (torch.atan2(k, root) + inner * k / root) / (2 * math.pi)


ACTIVATIONS = {
    "erf": Activation(torch.erf, _erf_products, _erf_slopes),
    "gelu": Activation(F.gelu, _gelu_products, _gelu_slopes),
    "relu": Activation(F.relu, _relu_products, _relu_slopes),
}


def activation(name: str) -> Activation:
    """An activation by its name.

    Raises:
        ValueError: For one whose expectations are not known here.
    """
    if name not in [*ACTIVATIONS]:
        raise ValueError(f"unknown activation {name!r}; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
