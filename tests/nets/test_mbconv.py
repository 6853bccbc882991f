"""The inverted bottleneck: shape, values, weights counted by hand, and what drop-path scales."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import count_multiply_adds, count_parameters
from darts_gdas.nets.mbconv import MBCONVS, MBConv
from darts_gdas.nets.operations import OPERATIONS, Zero
from darts_gdas.space import CHAIN_CANDIDATES

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def images(channels: int, size: tuple[int, int] = (7, 8)) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randn(3, channels, *size, dtype=torch.float64, generator=source)


def test_every_candidate_of_a_chain_is_an_operation():
    assert set(CHAIN_CANDIDATES) == {"skip_connect", *MBCONVS} <= set(OPERATIONS)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("before", "channels"), [(4, 4), (4, 6), (6, 3)])
def test_a_block_is_three_convolutions_with_norms(before: int, channels: int, stride: int):
    """By the library's own convolutions and norms; the input is added where the shape stays."""
    block = MBConv(channels, stride, before=before, kernel=5, expansion=3).double()
    for norm in (part for part in block.modules() if isinstance(part, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)

    def normalized(y: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        return F.batch_norm(y, None, None, norm.weight, norm.bias, training=True)

    x = images(before)
    y = F.relu(normalized(F.conv2d(x, block.widen.weight), block.widen_norm))
    y = F.conv2d(y, block.depthwise.weight, stride=stride, padding=2, groups=3 * before)
    y = F.relu(normalized(y, block.depthwise_norm))
    y = normalized(F.conv2d(y, block.narrow.weight), block.narrow_norm)
    assert y.shape == (3, channels, -(-7 // stride), 8 // stride)
    assert_close(block(x), x + y if before == channels and stride == 1 else y, **EXACT)


def test_weights_and_multiply_adds_are_those_counted_by_hand():
    """8 -> 16 channels, kernel 3, expansion 6, stride 2, on 8 x 8 pixels: 48 wide channels."""
    block = OPERATIONS["mbconv6_3x3"].between(8, 16, 2, affine=True)
    convolutions = 8 * 48 + 9 * 48 + 48 * 16  # 384 + 432 + 768 = 1584
    assert convolutions == 1584
    assert count_parameters(block) == convolutions + 2 * (48 + 48 + 16)
    assert (
        count_parameters(OPERATIONS["mbconv6_3x3"].between(8, 16, 2, affine=False)) == convolutions
    )
    assert count_multiply_adds(block, (8, 8, 8)) == 64 * 384 + 16 * 432 + 16 * 768


def test_a_factor_scales_what_stands_beside_the_input():
    block, x = MBConv(4, kernel=3, expansion=3).double().eval(), images(4)
    factor = torch.tensor([0.0, 2.0, 1.0]).double().view(3, 1, 1, 1)
    assert_close(block(x, factor), x + factor * (block(x) - x), **EXACT)
    assert_close(block(x, factor)[0], x[0], **EXACT)


def test_only_some_operations_can_change_the_number_of_channels():
    zero = OPERATIONS["none"].between(4, 6, 2, affine=True)
    assert isinstance(zero, Zero)
    assert_close(zero(images(4)), torch.zeros(3, 6, 4, 4).double())
    with pytest.raises(ValueError, match="keeps the number of channels stands where 4 become 6"):
        OPERATIONS["skip_connect"].between(4, 6, 1, affine=True)
