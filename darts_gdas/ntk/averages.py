"""Averages over random draws with their standard error: kernels over initialisations."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from darts_gdas.ntk.checks import check_count, check_tensor
from darts_gdas.ntk.kernel import empirical_ntk
from darts_gdas.ntk.nngp import empirical_nngp


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A mean of random draws.

    Attributes:
        mean: The mean.
        standard_error: Of the mean, entry by entry: the standard deviation of a draw, divided by
            the root of their number. Of four means one lies two or more away in about one of five.
        count: The number of draws.
    """

    mean: Tensor
    standard_error: Tensor
    count: int


def estimate(values: Iterable[Tensor]) -> Estimate:
    """The mean of values that come one after another, two of which are in memory at a time.

    Raises:
        ValueError: If there are fewer than two, or one is no tensor or not finite.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for value in values:  # Welford: no difference of large sums
        check_tensor(f"draw {count}", value)
        if not torch.isfinite(value).all():
            raise ValueError(f"draw {count} is a kernel with numbers that are not finite")
        count += 1
        change = value - mean
        mean = mean + change / count
        squares = squares + change * (value - mean)
    if count < 2:
        raise ValueError(f"an average with a standard error needs at least 2 draws, got {count}")
    return Estimate(mean, (squares / (count - 1) / count).sqrt(), count)


def draw_seed(seed: int, number: int) -> int:
    """The seed of one draw: a function of both numbers, so that draws can be made in any order."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def monte_carlo(
    make: Callable[[], nn.Module],
    kernel: Callable[[nn.Module], Tensor],
    *,
    draws: int,
    seed: int = 0,
) -> Estimate:
    """A kernel averaged over initialisations.

    Args:
        make: Builds a network with random weights (from torch's generator). The generator is left
            as it was.
        kernel: From the network to whatever is averaged.
        draws: How many networks, at least 2.
        seed: Draw i begins with a seed that is a function of this and i.

    Raises:
        ValueError: For fewer than 2 draws, a negative seed, or a kernel that is no tensor or not
            finite.

    Example:
        >>> x = torch.ones(1, 4)
        >>> found = monte_carlo(lambda: nn.Linear(4, 2), lambda net: net(x).detach(), draws=100)
        >>> bool((found.mean.abs() < 4 * found.standard_error).all())
        True
    """
    draws, seed = check_count("draws", draws, 2), check_count("seed", seed, 0)

    def one(number: int) -> Tensor:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(draw_seed(seed, number))
            network = make()
        return kernel(network)

    return estimate(map(one, range(draws)))


def monte_carlo_ntk(
    make: Callable[[], nn.Module],
    x1: Shaped[Tensor, "samples ..."],
    x2: Shaped[Tensor, "others ..."] | None = None,
    *,
    draws: int,
    seed: int = 0,
    **options: Any,
) -> Estimate:
    """The empirical tangent kernel averaged over initialisations, with its standard error.

    For wide networks in the parametrisation of `finite_network` it converges to `infinite_kernels`.

    Args:
        make: As in `monte_carlo`.
        x1: As in `empirical_ntk`.
        x2: As in `empirical_ntk`.
        draws: How many networks.
        seed: As in `monte_carlo`.
        **options: Further arguments of `empirical_ntk`: kind, method, params and so on.
    """
    return monte_carlo(
        make, lambda net: empirical_ntk(net, x1, x2, **options), draws=draws, seed=seed
    )


def monte_carlo_nngp(
    make: Callable[[], nn.Module],
    x1: Shaped[Tensor, "samples ..."],
    x2: Shaped[Tensor, "others ..."] | None = None,
    *,
    draws: int,
    seed: int = 0,
    **options: Any,
) -> Estimate:
    """The kernel of outputs averaged over initialisations: the covariance of untrained outputs.

    Arguments are those of `monte_carlo_ntk`, with `empirical_nngp` in place of `empirical_ntk`.
    """
    return monte_carlo(
        make, lambda net: empirical_nngp(net, x1, x2, **options), draws=draws, seed=seed
    )


def subset_error(values: Tensor, total: int) -> Tensor:
    """Standard error of the mean over a random part of `total` numbers, along the last axis."""
    count = values.shape[-1]
    return values.std(-1) * math.sqrt((1 - count / total) / count)
