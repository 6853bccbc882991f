"""The kernel of a network's outputs themselves: what its prior over functions looks like."""

from typing import Literal

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from darts_gdas.ntk.checks import check_count, check_memory, check_numbers, kind_of
from darts_gdas.ntk.entry import tried
from darts_gdas.ntk.gram import gram_of_outputs


def empirical_nngp(
    model: nn.Module,
    x1: Shaped[Tensor, "samples ..."],
    x2: Shaped[Tensor, "others ..."] | None = None,
    *,
    kind: Literal["sum", "trace", "diagonal", "full"] = "trace",
    chunk_size: int = 64,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Products of outputs, f_a(x_n) f_b(x_m): the kernel of a Gaussian process, seen in one draw.

    Averaged over initialisations it is the covariance of the outputs of an untrained network; in
    the limit of infinite width `trace` divided by the number of outputs (of a wide layer's, say)
    is that covariance for a single initialisation, too.

    Args:
        model: Taken as it stands, and left so; batch norms in evaluation. Cut it off before its
            last layer for the kernel of its features.
        x1: Inputs.
        x2: Other inputs for a rectangular kernel; None means x1.
        kind: As in `empirical_ntk`, with the outputs in place of their gradients.
        chunk_size: Samples per pass.
        dtype: As in `empirical_ntk`.

    Returns:
        [N1, N2]; for `diagonal` [N1, N2, O]; for `full` [N1, N2, O, O].

    Raises:
        ValueError: As `empirical_ntk`, and for outputs that are not finite.

    Example:
        >>> empirical_nngp(nn.Identity(), torch.tensor([[3.0, 4.0]]))
        tensor([[25.]])

    Reference:
        Lee et al., ICLR 2018, https://arxiv.org/abs/1711.00165.
    """
    which, chunk_size = kind_of(kind, dtype), check_count("chunk_size", chunk_size)
    with tried(model, x1, x2, gradients=False) as found:
        check_memory(which, x1, x2, found.num_outputs, dtype)
        sides = [
            torch.cat([model(part) for part in x.split(chunk_size)])
            for x in ([x1] if x2 is None else [x1, x2])
        ]
    for outputs in sides:
        check_numbers(outputs)
    return gram_of_outputs(which, sides, dtype=dtype)
