"""A chain of blocks, each with candidates of its own, as in ProxylessNAS and MobileNetV2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from darts_gdas.nets.code import RUN_ONE_STATE, Code, conv_norm, sequential
from darts_gdas.nets.layout import Layout, Skeleton, Stem
from darts_gdas.space import block_kinds

HEAD_WIDTH = 4
"""Channels of the head in multiples of the last block's: 1280 of 320 in the paper."""


@dataclass(frozen=True, slots=True)
class Chain(Skeleton):
    """Every position has a kind of its own, so that each block is chosen for itself.

    A block is a cell of one edge, which reads the last block's output as it is, and may change
    channels and resolution. Stem: a 3x3 convolution. Head: a 1x1 convolution.

    Reference:
        Cai et al., ICLR 2019, https://arxiv.org/abs/1812.00332, section 4.2 and figure 4.
    """

    name: ClassVar[str] = "chain"
    num_inputs: ClassVar[int] = 1
    fewest_layers: ClassVar[int] = 1
    paper: ClassVar[tuple[int, int]] = (16, 21)
    one_kind_per_layer: ClassVar[bool] = True

    def takes(self, num_inputs: Mapping[str, int]) -> bool:
        """Whether there are blocks, and nothing else."""
        return set(num_inputs) == set(block_kinds(len(num_inputs)))

    def check(self, layout: Layout) -> None:
        """The stem is the chain's own."""
        if layout.stem is not Stem.cifar:
            raise ValueError(
                "a chain of blocks has its own stem: leave net.stem out, and say with "
                "space.reductions which blocks halve the resolution"
            )

    def kinds(self, layout: Layout) -> tuple[str, ...]:
        """One for each position."""
        return block_kinds(layout.layers)

    def stem_channels(self, layout: Layout) -> int:
        """C."""
        return layout.channels

    def build_stem(self, layout: Layout) -> nn.Module:
        """Convolution, norm, ReLU."""
        conv = nn.Conv2d(layout.in_channels, layout.channels, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(layout.channels), nn.ReLU())

    def enter(self, stem: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """The stem's output."""
        return (stem(images),)

    def build_tail(self, layout: Layout, channels: int) -> tuple[nn.Module, int]:
        """The head: 1x1 convolution, norm, ReLU."""
        features = HEAD_WIDTH * channels
        conv = nn.Conv2d(channels, features, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(features), nn.ReLU()), features

    def code(self, layout: Layout, channels: int) -> Code:
        """Blocks without classes: each is written as its operation."""
        features, relu = HEAD_WIDTH * channels, "nn.ReLU()"
        conv = f"nn.Conv2d({channels}, {features}, 1, bias=False)"
        return Code(
            sequential("stem", [*conv_norm(layout.in_channels, layout.channels), relu]),
            sequential("tail", [conv, f"nn.BatchNorm2d({features})", relu]),
            RUN_ONE_STATE,
            "self.tail(x)",
            {"stem": "stem", "tail": "tail"},
        )


CHAIN = Chain()
