"""Rows of the Jacobian against autograd: what a faster way must not get wrong without a word.

Formulas and transforms can be wrong for some layers, samples and sizes of a batch. One backward
pass of the network itself tells, since sums of rows, each with a weight of its own, are gradients.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from darts_gdas.ntk.calls import reached
from darts_gdas.ntk.checks import four_of, largest_finite, unequal
from darts_gdas.ntk.gram import without_autocast

ROUNDED = 0.02
"""The largest share of a number that passes for rounding."""

_PART = 2**17
"""Numbers whose products a processor's cache holds in double precision."""

_AT_ONCE = 16
"""Samples per pass where all are looked at."""


def probe(sides: Sequence[Tensor]) -> Tensor:
    """Four samples of each side, from its beginning to its end, deliberately out of order.

    A network that sorts its samples would return sorted ones as they came, and pass unnoticed.
    """
    return torch.cat([x[four_of(x)[[2, 0, 3, 1]]] for x in sides])


def check_depends(
    model: nn.Module, sides: Sequence[Tensor], parameters: Mapping[str, nn.Parameter]
) -> None:
    """Raise a `ValueError` if no selected parameter moves any output: the kernel would be zero.

    All samples are looked at only where the first and the last say so.
    """
    wanted, x = {id(parameter) for parameter in parameters.values()}, sides[0]
    parts = [x[[0, -1]], *(part for side in sides for part in side.split(_AT_ONCE))]
    with torch.enable_grad():
        depends = any(reached(model(part.detach()), wanted) for part in parts)
    if not depends:
        raise ValueError(
            f"the outputs depend on no selected parameter, neither {next(iter(parameters))!r} nor "
            "another; forward must not run under torch.no_grad, nor detach, nor use "
            "checkpoint(use_reentrant=True)"
        )


def gradients_of_sum(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], images: Tensor, cotangent: Tensor
) -> dict[str, Tensor]:
    """The gradients of a weighted sum of all outputs of all samples, by name.

    Args:
        model: The network, its outputs flat.
        parameters: By name.
        images: Samples.
        cotangent: Weights of all outputs; one per sample counts for all of them.
    """
    if len(images) == 1:
        images, cotangent = beside_itself(images), cotangent[[0, 0]]
        cotangent[1] = 0
    with torch.enable_grad():
        output = model(images.detach())
    values = torch.autograd.grad(
        output,
        [*parameters.values()],
        cotangent.to(output).expand_as(output),
        allow_unused=True,
        materialize_grads=True,
    )
    dense = (value.to_dense() for value in values)  # those of embeddings may be sparse
    return dict(zip(parameters, dense, strict=True))


def beside_itself(image: Shaped[Tensor, "1 ..."]) -> Shaped[Tensor, "2 ..."]:
    """A sample and a copy of it, since autograd can be wrong for a batch of a single one.

    The stride of an axis of length 1 says nothing: batch norm in evaluation takes tokens that were
    turned into one image for channels_last, and their contiguous gradient, too
    (`findings/batch_norm_ignores_strides.sh`); instance norm reads a gradient in channels_last as
    if it were contiguous (`findings/instance_norm_of_one_image_scrambles_gradients.sh`).
    """
    return torch.cat([image, image])


def weighted_sum(
    rows: Float[Tensor, "samples rows columns"], parameters: Mapping[str, nn.Parameter]
) -> tuple[Float[Tensor, "samples rows"], dict[str, Tensor]]:
    """Weights of all rows, none like another, and the sum of rows that they make, by parameters."""
    weights = unequal(rows[:, :, 0])  # one column of them is all outputs
    with without_autocast(rows.device):
        sums = torch.tensordot(weights, rows, dims=2)
    sums = sums.split([p.numel() for p in parameters.values()])
    pairs = zip(parameters.items(), sums, strict=True)
    return weights, {name: part.view_as(p) for (name, p), part in pairs}


def differing(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, largest: Tensor | None = None
) -> str | None:
    """The first parameter whose sum of rows is not the gradient of that sum of outputs.

    Args:
        found: The sums of rows by name.
        expected: The gradients.
        largest: The largest number in the rows, where sums may be much smaller.
    """
    own = {name: largest_finite(value) for name, value in expected.items()}
    scale = max(map(float, own.values()))
    scale = scale if largest is None else max(scale, float(largest_finite(largest)))
    for name, value in expected.items():
        if not _is_rounded(found[name], value, float(own[name]), scale):
            return name
    return None


def agrees(found: Tensor, expected: Tensor, scale: Tensor) -> bool:
    """Whether two ways to the same numbers agree to half of their digits.

    Args:
        found: By one way.
        expected: By the other.
        scale: Numbers of which the largest is what counts as large.
    """
    own = float(largest_finite(expected))
    return _is_rounded(found, expected, own, float(largest_finite(scale)))


def _is_rounded(found: Tensor, expected: Tensor, own: float, scale: float) -> bool:
    """Whether numbers agree to half of the digits of their own largest and of another one."""
    if found.shape != expected.shape:
        return False
    share = _tolerance(found, expected)
    return _is_within(found.to(expected), expected, share * own + share * scale)


def is_close(found: Tensor, expected: Tensor, share: float, more: float = 0.0) -> bool:
    """Whether all numbers of two tensors are the same, nan being nan.

    Args:
        found: One of them; in another shape it is not the other.
        expected: The other.
        share: By how much of its largest finite number they may differ.
        more: By how much beyond that.
    """
    if found.shape != expected.shape:
        return False
    return _is_within(found, expected, share * float(largest_finite(expected.detach())) + more)


def _is_within(found: Tensor, expected: Tensor, most: float) -> bool:
    """Whether numbers differ by no more, nan and inf from themselves by nothing."""
    apart = (found.detach() - expected.detach()).abs_()
    if not apart.numel() or float(apart.amax()) <= most:
        return True
    return torch.allclose(found, expected, rtol=0.0, atol=most, equal_nan=True)


def _tolerance(*values: Tensor) -> float:
    """Half of the digits of the coarsest."""
    eps = max(torch.finfo(value.dtype).eps for value in values)
    # In single precision a GPU may round what it multiplies to 10 bits.
    return ROUNDED if values[0].is_cuda and eps > 1e-8 else eps**0.5


def is_transposed(
    moved: Tensor, cotangent: Tensor, direction: Sequence[Tensor], gradients: Sequence[Tensor]
) -> bool:
    """Whether <u, J r> = <J^T u, r>, so that the way to one is the transpose of that to the other.

    Numbers that are not finite have no say; whoever uses them looks for them.

    Args:
        moved: J r.
        cotangent: u, of the same shape.
        direction: r, by parameters.
        gradients: J^T u.
    """
    (here, *lengths), there = _products(cotangent, moved), 0.0
    for gradient, r in zip(gradients, direction, strict=True):
        part, length = _products(gradient.to_dense(), r)
        there += part
        lengths.append(length)
    if not (math.isfinite(here) and math.isfinite(there)):
        return True
    return abs(here - there) <= _tolerance(moved, *gradients) * max(lengths)


def _products(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The sum and the length of products number by number, in double precision, part by part."""
    parts = zip(a.flatten().split(_PART), b.flatten().split(_PART), strict=True)
    products = (torch.real(p).double() * torch.real(q) for p, q in parts)
    sums = [torch.stack([p.sum(), p.dot(p)]) for p in products]
    total, square = torch.stack(sums).sum(0).tolist() if sums else (0.0, 0.0)
    return total, square**0.5


def factors_of(output: Tensor) -> Tensor:
    """A power of two for every row, in no order: it scales a gradient without rounding."""
    return torch.exp2((13 * unequal(output[:, 0].double())).floor() - 19).to(output.dtype)
