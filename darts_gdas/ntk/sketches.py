"""Approximate tangent kernels with an error bar: random directions of weights, parts of outputs."""

from typing import Any, Literal

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from darts_gdas.ntk.averages import Estimate, draw_seed, estimate, subset_error
from darts_gdas.ntk.checks import Filter, check_count, check_memory, check_module, kind_of
from darts_gdas.ntk.directions import pushed, signs
from darts_gdas.ntk.entry import tried
from darts_gdas.ntk.gram import gram_of_outputs
from darts_gdas.ntk.kernel import empirical_ntk
from darts_gdas.ntk.normalization import flattened


def projected_ntk(
    model: nn.Module,
    x1: Shaped[Tensor, "samples ..."],
    x2: Shaped[Tensor, "others ..."] | None = None,
    *,
    projections: int,
    seed: int = 0,
    kind: Literal["sum", "trace", "diagonal", "full"] = "full",
    params: Literal["all", "weights"] | Filter = "all",
    chunk_size: int = 64,
    dtype: torch.dtype | None = None,
) -> Estimate:
    """The tangent kernel from random directions in the space of weights, without bias.

    J r for a random r of signs has one number per sample and output, and (J r)(J r)^T is the kernel
    in the mean. One forward-mode pass (two to three forward passes) gives J r for all outputs, so
    it pays where outputs are more than projections: segmentation, vocabularies. The relative error
    is about sqrt(2 / projections); the estimate has a rank of at most `projections`.

    Args:
        model: As in `empirical_ntk`; batch norms in evaluation.
        x1: Samples.
        x2: Others; None means x1.
        projections: How many directions, at least 2.
        seed: Direction i is a function of this and i.
        kind: As in `empirical_ntk`.
        params: As in `empirical_ntk`.
        chunk_size: Samples per pass.
        dtype: As in `empirical_ntk`.

    Raises:
        ValueError: As `empirical_ntk`, or for fewer than two projections.

    Example:
        >>> model, x = nn.Linear(3, 2), torch.ones(4, 3)
        >>> found = projected_ntk(model, x, kind="trace", projections=50)
        >>> bool(((found.mean - 8).abs() < 4 * found.standard_error).all())
        True
    """
    projections, seed = check_count("projections", projections, 2), check_count("seed", seed, 0)
    which, chunk_size = kind_of(kind, dtype), check_count("chunk_size", chunk_size)
    with tried(model, x1, x2, params, chunk_size=chunk_size) as found:
        check_memory(which, x1, x2, found.num_outputs, dtype)
        sides = [x1] if x2 is None else [x1, x2]
        push = pushed(model, found.parameters, sides)

        def draw(number: int) -> Tensor:
            rng = torch.Generator().manual_seed(draw_seed(seed, number))
            direction = [signs(p, rng) for p in found.parameters.values()]
            moved = [push.along(x, direction, chunk_size) for x in sides]
            return gram_of_outputs(which, moved, dtype=dtype)

        return estimate(map(draw, range(projections)))


def subsampled_ntk(
    model: nn.Module,
    x1: Shaped[Tensor, "samples ..."],
    x2: Shaped[Tensor, "others ..."] | None = None,
    *,
    outputs: int,
    seed: int = 0,
    **options: Any,
) -> Estimate:
    """The `trace` kernel from a random part of the outputs, scaled up, without bias.

    One backward pass per chosen output in place of one for each. The standard error is that of
    drawing without replacement: 0 if all outputs are drawn.

    Args:
        model: As in `empirical_ntk`.
        x1: Samples.
        x2: Others; None means x1.
        outputs: How many outputs to draw, from 2 to all.
        seed: Of the draw.
        **options: Further arguments of `empirical_ntk`, without `kind`.

    Raises:
        ValueError: As `empirical_ntk`, or for a number of outputs out of range.

    Example:
        >>> model, x = nn.Linear(3, 8), torch.ones(4, 3)
        >>> subsampled_ntk(model, x, outputs=2).mean[0, 0]  # all outputs have the same kernel
        tensor(32.)
    """
    if "kind" in options:
        raise ValueError('kind is "trace" here; leave it out')
    check_module(model)
    part = _Part(check_count("outputs", outputs, 2), check_count("seed", seed, 0))
    handle = model.register_forward_hook(part)
    try:
        own = empirical_ntk(model, x1, x2, kind="diagonal", **options)
    finally:
        handle.remove()
    total = part.total
    return Estimate(total * own.mean(-1), total * subset_error(own, total), own.shape[-1])


class _Part:
    """A hook by which the model returns some of its outputs.

    Args:
        count: How many.
        seed: Of the draw, which the first call makes, as it shows how many there are.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.total = count, seed, 0

    def __call__(self, model: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
        found = flattened(model, inputs, output)
        if not isinstance(found, Tensor) or found.dim() != 2:
            return found
        if not self.total:
            if found.shape[1] < 2:
                raise ValueError(
                    f"the model has {found.shape[1]} output, so there is none to leave out; "
                    'empirical_ntk with kind="trace" is exact'
                )
            check_count("outputs, of those that the model has,", self.count, 2, found.shape[1])
            self.total = found.shape[1]
            rng = torch.Generator().manual_seed(draw_seed(self.seed, 0))
            self.chosen = torch.randperm(self.total, generator=rng)[: self.count].to(found.device)
        return found[:, self.chosen]
