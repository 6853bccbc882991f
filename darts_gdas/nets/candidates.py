"""The modules that stand on edges, and how they leave a state that other edges leave too.

A module without a class of its own here reads the state by itself, on every edge. The classes that
begin with a ReLU, and the functions below, are also what a written-out network is made of
(`portable.source` copies them), so they need torch alone and take affine norms where nothing is
said.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_gdas.nets.convolution import convolved
from darts_gdas.nets.depthwise import Depthwise
from darts_gdas.nets.pixels import even_and_odd
from darts_gdas.nets.pooling import normalized, normalized_pool, normalizes_alone
from darts_gdas.nets.statistics import StatisticsUpdate, uses_batch_statistics
from darts_gdas.nets.synced import is_synced

T = TypeVar("T")
torch.fx.wrap("even_and_odd")  # a symbolic trace cannot follow its questions


class State:
    """A state of a cell, with what its leaving edges share, by name where someone asked for it."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.made: dict[str, Any] = {}

    def once(self, what: str, make: Callable[[], T]) -> T:
        """What is made of the state, by the first one who asks for it."""
        if what not in self.made:
            self.made[what] = make()
        return self.made[what]

    def relu(self) -> Tensor:
        """ReLU of the state."""
        return self.once("relu", lambda: F.relu(self.x))

    def through(self, module: nn.Module, update: StatisticsUpdate | None = None) -> Tensor:
        """What a module makes of the state; all modules that begin with a ReLU share it.

        Args:
            module: Any.
            update: Takes the batch's statistics, where the norms do not move their own.
        """
        if not isinstance(module, ReluFirst):
            return module(self.x)
        return after_relu(module, self.relu(), update) if update else module.after_relu(self.relu())


@dataclass
class Leaving:
    """What a group of edges makes of a state, by name of the candidate and by what can be shared.

    Attributes:
        state: Where the edges start.
        update: Takes the batch's statistics.
        drop: Dropout behind a skip connection, called once per edge; None is none.
        alone: Whether a single candidate runs.
        convs: Separable convolutions to be run as affine maps, [edges][depth].
        normed: Outputs whose norms are still to follow, and these, one of each per edge.
        shared: The same output on every edge.
        others: One output per edge.
    """

    state: State
    update: StatisticsUpdate
    drop: Callable[[Tensor], Tensor] | None
    alone: bool = False
    convs: "dict[str, list[list[SeparableConv]]]" = field(default_factory=dict)
    normed: dict[str, list[tuple[Tensor, nn.BatchNorm2d]]] = field(default_factory=dict)
    shared: dict[str, Tensor] = field(default_factory=dict)
    others: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, name: str, candidates: Sequence[nn.Module]) -> None:
        """Take the candidates of one name, one per edge."""
        first = candidates[0]
        if isinstance(first, Together):
            first.leave(name, candidates, self)
        else:
            self.each(name, candidates)

    def each(self, name: str, candidates: Sequence[nn.Module]) -> None:
        """Take candidates that run edge by edge."""
        if all(type(c) is ReluConvNorm and normalizes_alone(c.norm) for c in candidates):
            blocks = cast(Sequence[ReluConvNorm], candidates)
            relu, is_taken = self.state.relu, "relu" in self.state.made
            x, make = (self.state.x, relu) if self.alone and not is_taken else (relu(), None)
            outputs = before_norm(blocks, x, make)
            self.normed[name] = [*zip(outputs, (b.norm for b in blocks), strict=True)]
            return
        self.others[name] = [self.state.through(c, self.update) for c in candidates]


class Together(ABC):
    """A candidate that knows what the edges out of one state share of it."""

    @abstractmethod
    def leave(self, name: str, candidates: Sequence[Any], leaving: Leaving) -> None:
        """Put what the candidates, of which this is the first, make of the state in its place."""


class ReluFirst(nn.Module, ABC):
    """A block that begins with a ReLU, which is taken once for all that read the same state."""

    def forward(self, x: Tensor) -> Tensor:
        """The whole block."""
        return self.after_relu(F.relu(x))

    @abstractmethod
    def after_relu(self, x: Tensor) -> Tensor:
        """The rest, where the ReLU has been taken."""


class Skip(nn.Identity, Together):
    """A skip connection as a supernet holds it."""

    def leave(self, name: str, candidates: Sequence[Any], leaving: Leaving) -> None:
        """The state itself, on all edges; with dropout, on every edge with a mask of its own."""
        x = leaving.state.x
        if leaving.drop is None:
            leaving.shared[name] = x
        else:
            leaving.others[name] = [leaving.drop(x) for _ in candidates]


class NormalizedPool(nn.Module, Together):
    """Pooling as a supernet holds it: normalised, so that candidates compete at equal scales."""

    def __init__(self, pool: nn.Module, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.pool = pool
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Pool, then normalise."""
        return self.norm(self.pool(x))

    def leave(self, name: str, candidates: Sequence[Any], leaving: Leaving) -> None:
        """Pool once, and normalise once where norms take the batch's statistics."""
        norms = [cast(NormalizedPool, candidate).norm for candidate in candidates]
        state = leaving.state
        if uses_batch_statistics(self.norm) and not is_synced(self.norm):
            made = state.once(
                f"{name} normalised", lambda: normalized_pool(state.x, self.pool, self.norm.eps)
            )
            leaving.shared[name], mean, variance = made
            leaving.update.add(norms, *(t.expand(len(norms), -1) for t in (mean, variance)))
        else:
            y = state.once(f"{name} pooled", lambda: self.pool(state.x))
            leaving.others[name] = [norm(y) for norm in norms]


class ReluConvNorm(ReluFirst):
    """ReLU, convolution, norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        affine: bool = True,
        kernel: int = 1,
        stride: int = 1,
    ) -> None:
        super().__init__()
        # Strided pointwise convolutions crash in some versions of oneDNN: pixels are picked before.
        self.step, stride = (stride, 1) if kernel == 1 else (1, stride)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def after_relu(self, x: Tensor) -> Tensor:
        """The rest, where the ReLU has been taken."""
        return self.norm(self.convolved(x))

    def convolved(self, x: Tensor) -> Tensor:
        """What is normalised, where the ReLU has been taken."""
        return self.conv(x if self.step == 1 else x[:, :, :: self.step, :: self.step])


class FactorizedReduce(ReluFirst):
    """Halve height and width without losing three of four pixels: ReLU, convolutions, norm.

    Two 1x1 convolutions with stride 2, the second one shifted by a pixel, side by side. An odd
    size is rounded up, as strided convolutions with padding round it.
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool = True) -> None:
        super().__init__()
        half = out_channels // 2
        self.even = nn.Conv2d(in_channels, half, 1, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - half, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def after_relu(self, x: Tensor) -> Tensor:
        """The rest, where the ReLU has been taken."""
        return self.norm(self.convolved(x))

    def convolved(self, x: Tensor) -> Tensor:
        """What is normalised, where the ReLU has been taken."""
        picked = even_and_odd(x)
        return torch.cat([self.even(picked[0]), self.odd(picked[1])], dim=1)


def after_relu(module: Any, x: Tensor, update: StatisticsUpdate) -> Tensor:
    """`module.after_relu(x)`, as one of a cell's that share an update of their statistics."""
    if type(module) is ReluConvNorm:
        return normalized(before_norm([module], x)[0], module.norm, update)
    if type(module) is FactorizedReduce:
        return normalized(module.convolved(x), module.norm, update)
    return module.after_relu(x)


def before_norm(
    modules: Sequence[ReluConvNorm], x: Tensor, relu: Callable[[], Tensor] | None = None
) -> list[Tensor]:
    """`module.convolved(x)` of each, all of one shape, by a kernel where there is one.

    Args:
        modules: Whose norms are still to follow.
        x: What has passed the ReLU.
        relu: Makes what has, of `x`, where kernels do not take the ReLU as they read.
    """
    if modules[0].step == 1:
        return convolved([module.conv for module in modules], x, relu=relu)
    read = relu() if relu else x
    return [module.convolved(read) for module in modules]


class SeparableConv(ReluFirst):
    """ReLU, one k x k kernel per channel, a pointwise mix of the channels, norm."""

    def __init__(
        self, channels: int, kernel: int, stride: int = 1, affine: bool = True, dilation: int = 1
    ) -> None:
        super().__init__()
        self.depthwise = Depthwise(channels, kernel, stride=stride, dilation=dilation)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def after_relu(self, x: Tensor) -> Tensor:
        """The rest, where the ReLU has been taken."""
        return self.norm(self.pointwise(self.depthwise(x)))


class SeparableConvs(ReluFirst, nn.Sequential, Together):  # type: ignore[override]
    """One or more `SeparableConv` after each other."""

    @property
    def blocks(self) -> list[SeparableConv]:
        """The blocks in order."""
        return cast(list[SeparableConv], list(self))

    def after_relu(self, x: Tensor) -> Tensor:
        """The rest, where the ReLU has been taken."""
        first, *others = self.blocks
        x = first.after_relu(x)
        for block in others:
            x = block(x)
        return x

    def leave(self, name: str, candidates: Sequence[Any], leaving: Leaving) -> None:
        """As affine maps, whose arithmetic takes a batch's statistics apart from the norms."""
        if is_synced(self.blocks[0].norm):
            leaving.each(name, candidates)
        else:
            leaving.convs[name] = [cast(SeparableConvs, c).blocks for c in candidates]


def separable_convs(
    channels: int, stride: int = 1, affine: bool = True, *, kernel: int
) -> SeparableConvs:
    """Two depthwise-separable convolutions, the first one strided."""
    first = SeparableConv(channels, kernel, stride, affine)
    return SeparableConvs(first, SeparableConv(channels, kernel, 1, affine))


def dilated_conv(
    channels: int, stride: int = 1, affine: bool = True, *, kernel: int
) -> SeparableConvs:
    """One depthwise-separable convolution with dilation 2."""
    return SeparableConvs(SeparableConv(channels, kernel, stride, affine, dilation=2))


def relu_conv_norm(
    channels: int, stride: int = 1, affine: bool = True, *, kernel: int
) -> ReluConvNorm:
    """ReLU, k x k convolution, norm."""
    return ReluConvNorm(channels, channels, affine, kernel, stride)


def max_pool_norm(channels: int, stride: int = 1, affine: bool = True) -> NormalizedPool:
    """The largest of 3x3 pixels, norm."""
    return NormalizedPool(nn.MaxPool2d(3, stride, padding=1), channels, affine)
