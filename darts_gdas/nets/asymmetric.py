"""Convolutions as a row of weights and a column of weights."""

import math

from torch import nn

from darts_gdas.nets.candidates import ReluConvNorm


def conv_7x1_1x7(channels: int, stride: int = 1, affine: bool = True) -> nn.Sequential:
    """ReLU, a row of seven weights, a column of seven weights, norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


def group_conv_3x1_1x3(channels: int, stride: int = 1, affine: bool = True) -> nn.Sequential:
    """A row and a column of weights in eight groups of channels, then a mix of all channels."""
    groups = math.gcd(8, channels)
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 3), (1, stride), (0, 1), groups=groups, bias=False),
        nn.Conv2d(channels, channels, (3, 1), (stride, 1), (1, 0), groups=groups, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
        ReluConvNorm(channels, channels, affine),
    )
