"""The candidate operations, one record each: all that the package knows of them by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from darts_gdas.nets.asymmetric import conv_7x1_1x7, group_conv_3x1_1x3
from darts_gdas.nets.candidates import (
    FactorizedReduce,
    NormalizedPool,
    Skip,
    dilated_conv,
    max_pool_norm,
    relu_conv_norm,
    separable_convs,
)
from darts_gdas.nets.mbconv import MBCONVS
from darts_gdas.nets.noise import Noise
from darts_gdas.space import NONE

OperationFactory = Callable[..., nn.Module]


class Zero(nn.Module):
    """No connection: zeros in the shape of the other candidates' outputs."""

    def __init__(self, stride: int, channels: int | None = None) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels  # None: those of the input

    def forward(self, x: Tensor) -> Tensor:
        """Zeros; the values of `x` play no part, not even a NaN."""
        zeros = torch.zeros_like(x[:, : self.channels and 1, :: self.stride, :: self.stride])
        return zeros if self.channels is None else zeros.expand(-1, self.channels, -1, -1)


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that spaces and genotypes may name.

    How its module leaves a state is the module's to say (`nets.candidates`): `ReluFirst` shares the
    state's ReLU, `Together` more, all others nothing. Its family stands in `space.FAMILIES`, since
    drawings know no torch.

    Attributes:
        build: (channels, stride, affine) -> a module that keeps the number of channels and divides
            height and width by the stride, rounding up.
        is_pooling: Whether a supernet normalises the output, which has no norm of its own, so that
            candidates compete at equal scales.
        python: stride -> the expression that makes the operation in a written-out network, of its
            variable `channels` and of names that `build` can see; empty where it hands on the
            state as it is. None is a call of `build` itself.
        changes_channels: Whether `build` also takes `before=`, another number of channels that
            enter.
    """

    build: OperationFactory
    is_pooling: bool = False
    python: Callable[[int], str] | None = None
    changes_channels: bool = False

    def between(self, before: int, channels: int, stride: int, *, affine: bool) -> nn.Module:
        """The module between states of `before` and of `channels` channels.

        Raises:
            ValueError: If it keeps the number of channels, and these differ.
        """
        if before == channels:
            return self.build(channels, stride, affine)
        if not self.changes_channels:
            raise ValueError(
                f"an operation that keeps the number of channels stands where {before} become "
                f"{channels}; take one of {', '.join(MBCONVS)}"
            )
        return self.build(channels, stride, affine, before=before)

    def candidate(self, channels: int, stride: int, before: int | None = None) -> nn.Module:
        """The module as a supernet holds it: without affine norms, pooling normalised.

        A learnable scale after each candidate could undo the mixture's weights, hence affine=False.
        """
        module = self.between(before or channels, channels, stride, affine=False)
        if self.is_pooling:
            return NormalizedPool(module, channels, affine=False)
        return Skip() if isinstance(module, nn.Identity) else module


def _skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


OPERATIONS: dict[str, Operation] = {
    NONE: Operation(
        lambda channels, stride, affine, before=None: Zero(stride, before and channels),
        changes_channels=True,
    ),
    "max_pool_3x3": Operation(
        lambda channels, stride, affine: nn.MaxPool2d(3, stride, padding=1),
        is_pooling=True,
        python=lambda stride: f"nn.MaxPool2d(3, stride={stride}, padding=1)",
    ),
    "avg_pool_3x3": Operation(
        lambda channels, stride, affine: nn.AvgPool2d(
            3, stride, padding=1, count_include_pad=False
        ),
        is_pooling=True,
        python=lambda stride: (
            f"nn.AvgPool2d(3, stride={stride}, padding=1, count_include_pad=False)"
        ),
    ),
    "skip_connect": Operation(
        _skip_connect,
        python=lambda stride: "" if stride == 1 else "FactorizedReduce(channels, channels)",
    ),
    "sep_conv_3x3": Operation(partial(separable_convs, kernel=3)),
    "sep_conv_5x5": Operation(partial(separable_convs, kernel=5)),
    "sep_conv_7x7": Operation(partial(separable_convs, kernel=7)),
    "dil_conv_3x3": Operation(partial(dilated_conv, kernel=3)),
    "dil_conv_5x5": Operation(partial(dilated_conv, kernel=5)),
    "conv_7x1_1x7": Operation(conv_7x1_1x7),
    "nor_conv_1x1": Operation(partial(relu_conv_norm, kernel=1)),
    "nor_conv_3x3": Operation(partial(relu_conv_norm, kernel=3)),
    "group_conv_3x1_1x3": Operation(group_conv_3x1_1x3),
    "norm_max_pool_3x3": Operation(max_pool_norm),
    "noise": Operation(
        lambda channels, stride, affine: Noise(stride), python=lambda stride: f"Noise({stride})"
    ),
    **{name: Operation(build, changes_channels=True) for name, build in MBCONVS.items()},
}
"""All known operations: what a genotype or a search space may name.

The set is that of Liu et al., ICLR 2019, section 3.1 and appendix, with NASNet's and AmoebaNet's
larger kernels, NAS-Bench-201's plain convolutions (Dong and Yang, ICLR 2020, section 2.1), the
grouped convolutions and normalised pooling of GDAS's fixed reduction cell (Dong and Yang, CVPR
2019, as in the authors' code), the noise of Zela et al., ICLR 2020, and the inverted bottlenecks of
ProxylessNAS.
"""


def check_operations(names: frozenset[str] | set[str], where: str) -> None:
    """Raise a `ValueError` that names the operations which do not exist."""
    unknown = sorted(names - set(OPERATIONS))
    if unknown:
        raise ValueError(
            f"{where} names unknown operations {unknown}; known: {', '.join(OPERATIONS)}"
        )
