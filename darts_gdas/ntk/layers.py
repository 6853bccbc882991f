"""Gradients of one layer's weights for every sample by itself, the fastest exact form per layer.

All forms start from what entered a layer and from the gradient of its output, both with the
samples first. They were chosen by measuring on a CPU:

- 1x1 convolutions: a matrix product per sample;
- depthwise kernels of more than 9 taps, or with several gradients per sample: images shifted along
  the width only, then for each row of the kernel a product with a slice of them;
- other convolutions in the plane, with several gradients per sample: the patches under the kernel,
  gathered once, and a product per sample;
- other convolutions: all samples as groups of one convolution, whose weight gradient the library
  computes in one call;
- linear layers: outer products, kept as their factors where a sample enters the layer once;
- norms with fixed statistics, or with statistics of the sample itself: sums over pixels or tokens;
- embeddings: gradients gathered by token.
"""

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Rows = Callable[[Tensor], Float[Tensor, "rows weights"]]
"""From gradients of a layer's output to gradients of its weight, flat.

Gradients have one row per sample, or several, those of a sample behind each other.
"""

_FEW_TAPS = 9
"""Depthwise kernels up to this size are fastest in one grouped call for one gradient each."""


def weight_rows(
    layer: nn.Module,
    x: Shaped[Tensor, "samples ..."],
    *,
    several: bool = False,
    patches: bool = False,
) -> Rows:
    """How the weight's gradients follow from those of the output; prepares once what x gives.

    Args:
        layer: A linear layer, a convolution, a norm (of batch norms, one with fixed statistics), or
            an embedding.
        x: What entered it.
        several: Whether there are several gradients per sample, at once or one after the other.
        patches: Whether a convolution's rows are made of the patches under its kernel.
    """
    if isinstance(layer, nn.Linear):
        return _linear_rows(x)
    if isinstance(layer, _BatchNorm):
        return _norm_rows(layer, x)
    if isinstance(layer, nn.Embedding):
        return _embedding_rows(layer, x)
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm):
        return _scale_rows(layer, x)
    assert isinstance(layer, Convolution)
    if all(k == 1 for k in layer.kernel_size) and layer.groups == 1 and not any(layer.padding):
        return _pointwise_rows(layer, x)
    if is_depthwise(layer) and (several or layer.weight[0, 0].numel() > _FEW_TAPS):
        return _depthwise_rows(layer, x)
    if patches and isinstance(layer, nn.Conv2d):
        return _product_rows(patches_of(layer, x))
    return _grouped_rows(layer, x)


def is_depthwise(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a depthwise convolution in the plane.

    Rows of several gradients together are faster, since products with a single vector would read
    all images for little.
    """
    known = isinstance(layer, nn.Conv2d)
    return known and layer.groups == layer.in_channels == layer.out_channels


def patches_bytes(layer: nn.Module, x: Tensor) -> int:
    """Memory of the patches under a kernel, or 0 where rows are not made of them."""
    if not isinstance(layer, nn.Conv2d) or layer.groups > 1:
        return 0
    taps = layer.weight[0, 0].numel()
    return x.nbytes * taps if taps > 1 else 0


def _per_sample(gradient: Tensor, x: Tensor) -> int:
    """How many gradients there are of each sample."""
    return len(gradient) // len(x)


def bias_rows(layer: nn.Module, gradient: Tensor) -> Float[Tensor, "samples channels"]:
    """The gradients of a bias: those of the output, summed over whatever shares the bias."""
    if isinstance(layer, nn.Linear):
        return gradient.flatten(1, -2).sum(1) if gradient.dim() > 2 else gradient
    if isinstance(layer, nn.LayerNorm):
        return gradient.reshape(len(gradient), -1, layer.weight.numel()).sum(1)
    return gradient.flatten(2).sum(2) if gradient.dim() > 2 else gradient


def _linear_rows(x: Tensor) -> Rows:
    inputs = x.reshape(len(x), -1, x.shape[-1])

    def rows(gradient: Tensor) -> Tensor:
        g = gradient.reshape(len(gradient), -1, gradient.shape[-1])
        same = inputs.repeat_interleave(_per_sample(gradient, x), 0)
        return torch.bmm(g.mT, same).flatten(1)

    return rows


def fixed_statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps), in float32 where the norm has fewer digits.

    The library computes so too: what is multiplied and shifted may cancel.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    dtype = torch.promote_types(norm.running_mean.dtype, torch.float32)
    mean, variance = norm.running_mean.to(dtype), norm.running_var.to(dtype)
    return mean, (variance + norm.eps).rsqrt()


def _norm_rows(norm: _BatchNorm, x: Tensor) -> Rows:
    """With y = (x - mean) / sqrt(variance + eps) * weight + bias: a sum over pixels."""
    mean, inverse = fixed_statistics(norm)
    pixels = x.reshape(len(x), 1, x.shape[1], -1).to(mean)

    def rows(gradient: Tensor) -> Tensor:
        g = gradient.reshape(len(x), -1, x.shape[1], pixels.shape[3]).to(mean)
        products, sums = (g * pixels).sum(3).flatten(0, 1), g.sum(3).flatten(0, 1)
        return (products - mean * sums) * inverse

    return rows


def _scale_rows(norm: nn.LayerNorm | nn.RMSNorm | nn.GroupNorm, x: Tensor) -> Rows:
    """With y = (x normalised by itself) * weight + bias: a sum over tokens or pixels."""
    if isinstance(norm, nn.LayerNorm):
        plain = F.layer_norm(x, norm.normalized_shape, eps=norm.eps)
    elif isinstance(norm, nn.RMSNorm):
        plain = F.rms_norm(x, norm.normalized_shape, eps=norm.eps)
    else:
        plain = F.group_norm(x, norm.num_groups, eps=norm.eps)

    def rows(gradient: Tensor) -> Tensor:
        products = gradient * plain.repeat_interleave(_per_sample(gradient, x), 0)
        if isinstance(norm, nn.GroupNorm):
            return products.reshape(*products.shape[:2], -1).sum(2)
        return products.reshape(len(products), -1, norm.weight.numel()).sum(1)

    return rows


def _embedding_rows(layer: nn.Embedding, tokens: Tensor) -> Rows:
    places = tokens.reshape(len(tokens), -1)

    def rows(gradient: Tensor) -> Tensor:
        same = places.repeat_interleave(_per_sample(gradient, tokens), 0)
        offset = torch.arange(len(same), device=same.device)[:, None] * layer.num_embeddings
        found = gradient.new_zeros(len(same) * layer.num_embeddings, layer.embedding_dim)
        parts = gradient.reshape(-1, layer.embedding_dim)
        if layer.padding_idx is not None:
            parts = parts * (same.reshape(-1, 1) != layer.padding_idx)
        return found.index_add_(0, (same + offset).flatten(), parts).view(len(same), -1)

    return rows


def _pointwise_rows(conv: Convolution, x: Tensor) -> Rows:
    if any(stride > 1 for stride in conv.stride):
        x = x[(slice(None), slice(None), *(slice(None, None, s) for s in conv.stride))]
    return _product_rows(x.flatten(2).mT)


def _product_rows(inputs: Float[Tensor, "samples places features"]) -> Rows:
    """Of a weight that is multiplied with these at every place of a sample."""

    def rows(gradient: Tensor) -> Tensor:
        g = gradient.reshape(len(inputs), -1, inputs.shape[1])  # all channels in a column
        return torch.bmm(g, inputs).view(len(gradient), -1)

    return rows


def patches_of(
    layer: nn.Module, x: Float[Tensor, "samples ..."]
) -> Float[Tensor, "samples places features"]:
    """What a weight is multiplied with at every place.

    Args:
        layer: A linear layer, or a convolution in the plane without groups.
        x: What enters it.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(len(x), -1, x.shape[-1])
    assert isinstance(layer, nn.Conv2d)
    padding: Any = layer.padding  # two numbers; where it is a word, the layer is no known one
    return F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride).mT


def _depthwise_rows(conv: nn.Conv2d, x: Tensor) -> Rows:
    (rows_, columns), (down, across) = conv.kernel_size, conv.stride
    step_down, step_across = conv.dilation
    top, left = (int(p) for p in conv.padding)
    padded = F.pad(x, (left, left, top, top))
    maps = len(x) * x.shape[1]
    height = (padded.shape[2] - step_down * (rows_ - 1) - 1) // down + 1
    width = (padded.shape[3] - step_across * (columns - 1) - 1) // across + 1
    spans = [step_across * j for j in range(columns)]
    shifted = torch.stack(
        [padded[..., j : j + (width - 1) * across + 1 : across] for j in spans], dim=2
    )
    shifted = shifted.reshape(maps, columns, padded.shape[2], width)
    slices = []
    for start in (step_down * i for i in range(rows_)):
        window = shifted[:, :, start : start + (height - 1) * down + 1 : down]
        slices.append(window.flatten(2))  # a view where rows are taken one by one

    def rows(gradient: Tensor) -> Tensor:
        g = gradient.reshape(len(x), -1, x.shape[1], height * width)
        g = g.permute(0, 2, 3, 1).reshape(maps, height * width, -1)
        taps = torch.cat([torch.bmm(part, g) for part in slices], dim=1)
        taps = taps.view(len(x), x.shape[1], rows_ * columns, -1)
        return taps.permute(0, 3, 1, 2).reshape(len(gradient), -1)

    return rows


def _grouped_rows(conv: Convolution, x: Tensor) -> Rows:
    spatial = len(conv.kernel_size)

    def rows(gradient: Tensor) -> Tensor:
        samples = len(gradient)
        same = x.repeat_interleave(_per_sample(gradient, x), 0)
        folded = same.reshape(1, samples * x.shape[1], *x.shape[2:])
        kernel = x.new_empty(()).expand(samples * conv.out_channels, *conv.weight.shape[1:])
        _, dweight, _ = torch.ops.aten.convolution_backward(
            gradient.reshape(1, samples * conv.out_channels, *gradient.shape[2:]),
            folded,
            kernel,  # only its shape is read
            None,
            conv.stride,
            conv.padding,
            conv.dilation,
            False,
            [0] * spatial,
            samples * conv.groups,
            [False, True, False],
        )
        return dweight.reshape(samples, -1)

    return rows
