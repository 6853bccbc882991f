"""Kernels of infinitely wide networks, fully connected and convolutional, in closed form.

A network is a sequence of the layers below. Weights are standard normal and scaled when they are
used, by sqrt(weight_variance / fan_in), biases by sqrt(bias_variance): the parametrisation in which
the tangent kernel has a limit. Layer by layer, K for outputs and T for gradients:

    linear      K <- weight_variance K + bias_variance,  T <- K + weight_variance T
    activation  K <- E[phi(u) phi(v)],                   T <- T E[phi'(u) phi'(v)]

In images K and T are also functions of two pixels; where nothing averages over pixels, only equal
pixels matter. A convolution averages over its window; beyond the border there is zero.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from darts_gdas.ntk.checks import check_count, check_inputs, check_variance, free_memory
from darts_gdas.ntk.moments import activation


@dataclass(frozen=True, slots=True, eq=False)
class WideKernels:
    """The two kernels of one output of an infinitely wide network.

    Attributes:
        nngp: K, the covariance of outputs over initialisations: [N1, N2]; between layers, with
            pixels [N1, N2, H, W], with pairs of pixels [N1, N2, H, W, H, W].
        ntk: T, the tangent kernel, the same for every initialisation.
    """

    nngp: Float64[Tensor, "samples others ..."]
    ntk: Float64[Tensor, "samples others ..."]

    def linear(self, average: Callable[[Tensor], Tensor], w: float, b: float) -> "WideKernels":
        """After a layer that averages over features, and by `average` over pixels."""
        nngp = w * average(self.nngp) + b
        return WideKernels(nngp, nngp + w * average(self.ntk))

    def pooled(self, average: Callable[[Tensor], Tensor]) -> "WideKernels":
        """After something linear without weights."""
        return WideKernels(average(self.nngp), average(self.ntk))


class WideLayer(ABC):
    """A layer of an infinitely wide network."""

    @abstractmethod
    def __call__(self, kernels: WideKernels) -> WideKernels:
        """The kernels after it, of all samples with each other."""


@dataclass(frozen=True, slots=True)
class Dense(WideLayer):
    """A fully connected layer.

    Attributes:
        weight_variance: Variance of a weight times fan-in.
        bias_variance: Variance of a bias.
    """

    weight_variance: float = 1.0
    bias_variance: float = 0.0

    def __post_init__(self) -> None:
        check_variance("weight_variance", self.weight_variance)
        check_variance("bias_variance", self.bias_variance)

    def __call__(self, kernels: WideKernels) -> WideKernels:
        """Means over features."""
        return kernels.linear(lambda k: k, self.weight_variance, self.bias_variance)


@dataclass(frozen=True, slots=True)
class Conv(WideLayer):
    """A convolution with a square kernel, zero-padded.

    Attributes:
        size: Side of the kernel.
        stride: As in `nn.Conv2d`.
        padding: As in `nn.Conv2d`.
        weight_variance: Variance of a weight times fan-in (channels times taps).
        bias_variance: Variance of a bias.
    """

    size: int = 3
    stride: int = 1
    padding: int = 1
    weight_variance: float = 1.0
    bias_variance: float = 0.0

    def __post_init__(self) -> None:
        check_variance("weight_variance", self.weight_variance)
        check_variance("bias_variance", self.bias_variance)
        for name, value, least in (
            ("size", self.size, 1),
            ("stride", self.stride, 1),
            ("padding", self.padding, 0),
        ):
            check_count(name, value, least)

    def __call__(self, kernels: WideKernels) -> WideKernels:
        """Means over features and windows."""
        return kernels.linear(self._average, self.weight_variance, self.bias_variance)

    def _average(self, values: Tensor) -> Tensor:
        """Means over windows, of both pixels where there are two: the same tap in both."""
        axes = values.ndim - 2
        padded = F.pad(values, (self.padding,) * (2 * axes))
        spans = [side - self.size + 1 for side in padded.shape[2:]]
        if min(spans) < 1:
            sides = " x ".join(map(str, padded.shape[2:4]))
            raise ValueError(f"a kernel of size {self.size} does not fit into {sides} pixels")
        windows = []
        for i in range(self.size):
            for j in range(self.size):
                starts = (i, j) * (axes // 2)
                ends = zip(starts, spans, strict=True)
                part = [slice(first, first + span, self.stride) for first, span in ends]
                windows.append(padded[(..., *part)])
        return sum(windows[1:], windows[0]) / len(windows)


@dataclass(frozen=True, slots=True)
class Nonlinearity(WideLayer):
    """An activation.

    Attributes:
        name: "relu", "erf" or "gelu".
    """

    name: str = "relu"

    def __post_init__(self) -> None:
        activation(self.name)

    def __call__(self, kernels: WideKernels) -> WideKernels:
        """Gaussian expectations, entry by entry."""
        moments, nngp = activation(self.name), kernels.nngp
        if nngp.ndim == 6:
            own = torch.einsum("nnijij->nij", nngp)
            q1, q2 = own[:, None, :, :, None, None], own[None, :, None, None]
        else:
            own = nngp.diagonal().movedim(-1, 0)
            q1, q2 = own[:, None], own[None]
        slopes = moments.slopes(q1, q2, nngp)
        return WideKernels(moments.products(q1, q2, nngp), kernels.ntk * slopes)


@dataclass(frozen=True, slots=True)
class Flatten(WideLayer):
    """All pixels' features side by side: pixels are compared with themselves."""

    def __call__(self, kernels: WideKernels) -> WideKernels:
        """Means over equal pixels."""
        if kernels.nngp.ndim == 4:
            return kernels.pooled(lambda k: k.mean((2, 3)))
        return kernels.pooled(lambda k: torch.einsum("nmijij->nmij", k).mean((2, 3)))


@dataclass(frozen=True, slots=True)
class GlobalAverage(WideLayer):
    """The mean over all pixels: every pixel is compared with every other."""

    def __call__(self, kernels: WideKernels) -> WideKernels:
        """Means over pairs of pixels."""
        return kernels.pooled(lambda k: k.mean((2, 3, 4, 5)))


def check_layers(layers: Sequence[WideLayer], *, images: bool) -> None:
    """Raise a `ValueError` unless they are layers of a wide network, each after what it can take.

    The expectations of a nonlinearity are those of Gaussian inputs, alike in every feature. Weights
    make such inputs, and the mean over pixels keeps them; `Flatten` gives features whose variances
    differ from pixel to pixel.

    Args:
        layers: From the first to the last, which must be `Dense`.
        images: Whether the samples are images; otherwise they are vectors.
    """
    if not isinstance(layers, Sequence) or not all(isinstance(x, WideLayer) for x in layers):
        raise ValueError(
            "layers must be a list of Dense, Conv, Nonlinearity, Flatten and GlobalAverage, got "
            f"{layers!r}"
        )
    if not layers or not isinstance(layers[-1], Dense):
        raise ValueError(f"the last of the layers must be Dense, got {list(layers)}")
    is_gaussian = False
    for place, layer in enumerate(layers, 1):
        if isinstance(layer, Dense) and images:
            raise ValueError(
                f"layer {place}, {layer}: Dense sees images; put Flatten() or GlobalAverage() "
                "before it"
            )
        if isinstance(layer, Conv | Flatten | GlobalAverage) and not images:
            raise ValueError(
                f"layer {place}, {layer}: {type(layer).__name__} needs images, and sees vectors"
            )
        if isinstance(layer, Nonlinearity) and not is_gaussian:
            raise ValueError(
                f"layer {place}, {layer}: its inputs must be Gaussian, so Dense or Conv must stand "
                "before it, after any other nonlinearity, with at most GlobalAverage() between "
                "(put Flatten() after the nonlinearity)"
            )
        images = images and not isinstance(layer, Flatten | GlobalAverage)
        has_weights = isinstance(layer, Dense | Conv)
        is_gaussian = has_weights or (is_gaussian and isinstance(layer, GlobalAverage))


def infinite_kernels(
    layers: Sequence[WideLayer],
    x1: Float[Tensor, "samples ..."],
    x2: Float[Tensor, "others ..."] | None = None,
) -> WideKernels:
    """NNGP and tangent kernel of an infinitely wide network, in float64.

    What `monte_carlo_nngp` and `monte_carlo_ntk` of `finite_network(layers, ...)` tend to as the
    width grows, at rate 1 / width. Time and memory of convolutions grow with the square of the
    number of samples times that of pixels, or of pairs of pixels where `GlobalAverage` is used.

    Args:
        layers: From the first to the last, which is `Dense`. Before each `Nonlinearity` stands a
            `Dense` or `Conv` of its own, since its inputs must be Gaussian.
        x1: Vectors [N1, D] or images [N1, C, H, W].
        x2: Others; None means x1.

    Raises:
        ValueError: For layers that do not fit their input or each other, or too many pixels.

    Example:
        >>> layers = [Dense(), Nonlinearity("relu"), Dense(2.0)]
        >>> infinite_kernels(layers, torch.tensor([[1.0, 1.0]])).ntk
        tensor([[2.]], dtype=torch.float64)

    Reference:
        Lee et al., ICLR 2018, https://arxiv.org/abs/1711.00165; Novak et al., ICLR 2019,
        https://arxiv.org/abs/1810.05148; Jacot et al., https://arxiv.org/abs/1806.07572; Arora et
        al., NeurIPS 2019, https://arxiv.org/abs/1904.11955.
    """
    check_inputs(x1, x2)
    if x1.ndim not in (2, 4) or not x1.is_floating_point():
        raise ValueError(
            f"x1 must hold vectors [samples, features] or images [samples, channels, height, "
            f"width] in floating point, got {x1.dtype} of shape {tuple(x1.shape)}"
        )
    check_layers(layers, images=x1.ndim == 4)
    x = (x1 if x2 is None else torch.cat([x1, x2])).double()
    pairs = any(isinstance(layer, GlobalAverage) for layer in layers)
    entries = len(x) ** 2 * math.prod(x.shape[2:]) ** (2 if pairs else 1)
    if 6 * 8 * entries > free_memory(x.device):
        raise ValueError(
            f"kernels of {len(x)} samples, {math.prod(x.shape[2:])} pixels, need about "
            f"{6 * 8 * entries / 2**30:.1f} GiB, more than is free; use fewer samples or pixels"
        )
    kernels = _of_inputs(x, pairs)
    for layer in layers:
        kernels = layer(kernels)
    columns = slice(None) if x2 is None else slice(len(x1), None)
    return kernels.pooled(lambda k: k[: len(x1), columns].contiguous())


def _of_inputs(x: Tensor, pairs: bool) -> WideKernels:
    """Mean products of features; nothing has weights yet."""
    images = "ncij,mckl->nmijkl" if pairs else "ncij,mcij->nmij"
    form = "nc,mc->nm" if x.ndim == 2 else images
    nngp = torch.einsum(form, x, x) / x.shape[1]
    return WideKernels(nngp, torch.zeros_like(nngp))
