"""Partial channels: a share of every state's channels runs through the candidates (PC-DARTS).

An edge hands its first C / K channels to its candidates and lets the others pass by, concatenates
both and shuffles the channels, so that the next edge's candidates see others. All edges into a node
shuffle alike, so their sum is shuffled once; all edges out of a state let the same channels pass
by, so those are pooled once.

Reference:
    Xu et al., ICLR 2020, https://arxiv.org/abs/1907.05737, section 3.2, eq. (2).
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from darts_gdas.nets.formats import channels_last

Images = Float[Tensor, "batch channels height width"]


def check_partial_channels(partial_channels: int, channels: int) -> None:
    """Raise a `ValueError` unless 1 / `partial_channels` of the channels is a number of channels.

    Args:
        partial_channels: K.
        channels: Channels of the first cells. Half of a candidate's must be a whole number too,
            because a strided skip connection has two paths.
    """
    if partial_channels < 1:
        raise ValueError(
            f"partial_channels must be at least 1 (1 runs all channels), got {partial_channels}"
        )
    if partial_channels > 1 and (channels % partial_channels or channels < 2 * partial_channels):
        raise ValueError(
            f"net.channels must be a multiple of partial_channels={partial_channels} and at least "
            f"{2 * partial_channels}, got {channels}"
        )


def first_channels(x: Images, count: int) -> Float[Tensor, "batch count height width"]:
    """What the candidates see; a copy, because convolutions want their pixels side by side."""
    return channels_last(x[:, :count])


def passing_channels(x: Images, count: int, *, stride: int) -> Float[Tensor, "batch rest h w"]:
    """The channels behind the first ones; a strided edge max-pools them, 2 x 2.

    An odd size is rounded up, as the strided candidates round it.
    """
    rest = x[:, count:]
    return rest if stride == 1 else F.max_pool2d(rest, stride, ceil_mode=True)


def shuffled(x: Images, groups: int) -> Images:
    """Deal the channels: channel g C/K + i becomes channel i K + g.

    Args:
        x: Images of C channels.
        groups: K.

    Reference:
        Zhang et al., CVPR 2018, https://arxiv.org/abs/1707.01083, section 3.1.
    """
    pixels = x.permute(0, 2, 3, 1).unflatten(-1, (groups, -1))
    return pixels.transpose(-1, -2).flatten(-2).permute(0, 3, 1, 2)
