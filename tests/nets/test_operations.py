"""Candidate operations: shapes, values against loops over pixels, parameter counts."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets.candidates import FactorizedReduce, ReluConvNorm
from darts_gdas.nets.operations import OPERATIONS, Zero, check_operations
from tests.oracles import batch_norm, per_pixel, pixel, window

SIZES = [(7, 7), (8, 8), (9, 6)]
KERNELS = {
    "sep_conv_3x3": 3,
    "sep_conv_5x5": 5,
    "sep_conv_7x7": 7,
    "dil_conv_3x3": 3,
    "dil_conv_5x5": 5,
}

# Sums of the same products in another order: a few units in the last place of float64.
EXACT = {"rtol": 1e-10, "atol": 1e-12}


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def weights_of(module: nn.Module) -> list[Tensor]:
    return [conv.weight for conv in module.modules() if isinstance(conv, nn.Conv2d)]


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def num_weights(name: str, channels: int, stride: int) -> tuple[int, int]:
    """(Convolution weights, normalised layers) of an operation, in closed form."""
    c = channels
    if name in KERNELS:
        layers = 2 if name.startswith("sep") else 1
        return layers * (KERNELS[name] ** 2 * c + c * c), layers
    if name.startswith("mbconv"):
        expansion = int(name[6])
        return expansion * (2 * c * c + int(name[-1]) ** 2 * c), 2 * expansion + 1
    if name == "conv_7x1_1x7":
        return 2 * 7 * c * c, 1
    if name == "group_conv_3x1_1x3":
        return 2 * 3 * c * (c // math.gcd(c, 8)) + c * c, 2
    if name == "norm_max_pool_3x3":
        return 0, 1
    if name.startswith("nor_conv"):
        return int(name[-1]) ** 2 * c * c, 1
    if name == "skip_connect" and stride == 2:
        return c * c, 1
    return 0, 0


# Shapes


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_keeps_channels_and_divides_the_size_rounding_up(
    name: str, stride: int, channels: int, size: tuple[int, int]
):
    expected = (2, channels, -(-size[0] // stride), -(-size[1] // stride))
    x = torch.randn(2, channels, *size)
    assert OPERATIONS[name].build(channels, stride, True)(x).shape == expected
    assert OPERATIONS[name].candidate(channels, stride)(x).shape == expected


# Values


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [(3, 4), (4, 5), (3, 2)], ids=str)
def test_factorized_reduce_reads_two_diagonal_pixels(
    channels: tuple[int, int], size: tuple[int, int]
):
    module = FactorizedReduce(*channels, affine=False).double()
    even, odd = (weight[:, :, 0, 0] for weight in (module.even.weight, module.odd.weight))

    def value_at(image: Tensor, row: int, column: int) -> Tensor:
        here, diagonal = pixel(image, row, column), pixel(image, row + 1, column + 1)
        beyond = torch.zeros(channels[0], dtype=torch.float64) if diagonal is None else diagonal
        return torch.cat([even @ here, odd @ beyond])

    x = images(2, channels[0], *size)
    assert_close(module(x), batch_norm(per_pixel(x.clamp(min=0), 2, value_at)), **EXACT)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_strided_1x1_convolution_reads_every_second_pixel(size: tuple[int, int]):
    module = ReluConvNorm(3, 4, affine=False, stride=2).double()
    weight = module.conv.weight[:, :, 0, 0]
    x = images(2, 3, *size)
    expected = per_pixel(x.clamp(min=0), 2, lambda *at: weight @ pixel(*at))
    assert_close(module(x), batch_norm(expected), **EXACT)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_no_1x1_convolution_is_strided(name: str):
    """Its backward pass in channels_last writes beyond its memory on CPUs with AVX2."""
    convs = [m for m in OPERATIONS[name].build(4, 2, False).modules() if isinstance(m, nn.Conv2d)]
    assert all(conv.stride == (1, 1) for conv in convs if conv.kernel_size == (1, 1))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_pooling_ignores_the_padding(stride: int, size: tuple[int, int]):
    def inside(image: Tensor, row: int, column: int) -> Tensor:
        return torch.stack([value for value in window(image, row, column, 3) if value is not None])

    x = images(2, 3, *size)
    mean = per_pixel(x, stride, lambda *at: inside(*at).mean(dim=0))
    largest = per_pixel(x, stride, lambda *at: inside(*at).max(dim=0).values)
    assert_close(OPERATIONS["avg_pool_3x3"].build(3, stride, True)(x), mean, **EXACT)
    assert_close(OPERATIONS["max_pool_3x3"].build(3, stride, True)(x), largest, **EXACT)
    assert_close(
        OPERATIONS["avg_pool_3x3"].candidate(3, stride).double()(x), batch_norm(mean), **EXACT
    )
    assert_close(
        OPERATIONS["max_pool_3x3"].candidate(3, stride).double()(x), batch_norm(largest), **EXACT
    )
    normalized = OPERATIONS["norm_max_pool_3x3"].build(3, stride, True).double()
    assert_close(normalized(x), batch_norm(largest), **EXACT)  # scale 1 and shift 0 at first


def depthwise_separable(
    x: Tensor, depthwise: Tensor, pointwise: Tensor, stride: int, dilation: int
) -> Tensor:
    """ReLU, k x k per channel, mix channels, normalise: pixel by pixel."""

    def value_at(image: Tensor, row: int, column: int) -> Tensor:
        kernel = depthwise.shape[-1]
        values = window(image, row, column, kernel, dilation)
        taps = depthwise[:, 0].flatten(1).unbind(1)
        total = sum(tap * v for tap, v in zip(taps, values, strict=True) if v is not None)
        return pointwise[:, :, 0, 0] @ total

    return batch_norm(per_pixel(x.clamp(min=0), stride, value_at))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", KERNELS)
def test_separable_and_dilated_convolutions_are_what_they_are_called(name: str, stride: int):
    module = OPERATIONS[name].candidate(3, stride).double()
    x = images(2, 3, 5, 6)
    weights = weights_of(module)
    if name.startswith("dil"):
        assert len(weights) == 2
        expected = depthwise_separable(x, *weights, stride, dilation=2)
    else:
        assert len(weights) == 4
        expected = depthwise_separable(x, *weights[:2], stride, dilation=1)
        expected = depthwise_separable(expected, *weights[2:], 1, dilation=1)
    assert_close(module(x), expected, **EXACT)


@pytest.mark.parametrize("stride", [1, 2])
def test_conv_7x1_1x7_slides_along_the_width_then_the_height(stride: int):
    module = OPERATIONS["conv_7x1_1x7"].candidate(2, stride).double()
    along_width, along_height = weights_of(module)
    assert along_width.shape == (2, 2, 1, 7) and along_height.shape == (2, 2, 7, 1)

    def line(image: Tensor, row: int, column: int, weight: Tensor) -> Tensor:
        down, right = weight.shape[2] > 1, weight.shape[3] > 1
        values = [pixel(image, row + i * down, column + i * right) for i in range(-3, 4)]
        taps = weight.flatten(2).unbind(2)
        return sum(tap @ v for tap, v in zip(taps, values, strict=True) if v is not None)

    x = images(2, 2, 7, 6)
    y = per_pixel(x.clamp(min=0), 1, lambda *at: line(*at, along_width))[:, :, :, ::stride]
    z = per_pixel(y, 1, lambda *at: line(*at, along_height))[:, :, ::stride]
    assert_close(module(x), batch_norm(z), **EXACT)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [3, 6])
def test_group_convolutions_mix_channels_of_a_group_then_all(channels: int, stride: int):
    """gcd(8, 3) = 1 group and gcd(8, 6) = 2 groups of three channels."""
    module = OPERATIONS["group_conv_3x1_1x3"].candidate(channels, stride).double()
    along_width, along_height, mix = weights_of(module)
    assert along_width.shape == (channels, 3, 1, 3) and along_height.shape == (channels, 3, 3, 1)

    def line(image: Tensor, row: int, column: int, weight: Tensor) -> Tensor:
        down, right = weight.shape[2] > 1, weight.shape[3] > 1
        total = torch.zeros(channels, dtype=torch.float64)
        for tap, i in zip(weight.flatten(2).unbind(2), (-1, 0, 1), strict=True):
            value = pixel(image, row + i * down, column + i * right)
            for out in range(channels if value is not None else 0):
                first = out // 3 * 3  # of the group that the output belongs to
                total[out] += tap[out] @ value[first : first + 3]
        return total

    x = images(2, channels, 5, 6)
    y = per_pixel(x.clamp(min=0), 1, lambda *at: line(*at, along_width))[:, :, :, ::stride]
    z = batch_norm(per_pixel(y, 1, lambda *at: line(*at, along_height))[:, :, ::stride])
    mixed = per_pixel(z.clamp(min=0), 1, lambda *at: mix[:, :, 0, 0] @ pixel(*at))
    assert_close(module(x), batch_norm(mixed), **EXACT)


@pytest.mark.parametrize("stride", [1, 2])
def test_nor_conv_3x3_is_a_convolution_between_relu_and_norm(stride: int):
    module = OPERATIONS["nor_conv_3x3"].candidate(2, stride).double()
    (weight,) = weights_of(module)
    taps = weight.flatten(2).unbind(2)

    def value_at(image: Tensor, row: int, column: int) -> Tensor:
        values = window(image, row, column, 3)
        return sum(tap @ v for tap, v in zip(taps, values, strict=True) if v is not None)

    x = images(2, 2, 5, 6)
    assert_close(module(x), batch_norm(per_pixel(x.clamp(min=0), stride, value_at)), **EXACT)


def test_relu_conv_norm_mixes_channels_of_each_pixel():
    module = ReluConvNorm(3, 4, False).double()
    (weight,) = weights_of(module)
    x = images(2, 3, 3, 4)
    mixed = per_pixel(x.clamp(min=0), 1, lambda *at: weight[:, :, 0, 0] @ pixel(*at))
    assert_close(module(x), batch_norm(mixed), **EXACT)


@pytest.mark.parametrize("stride", [1, 2])
def test_zero_is_zero_whatever_comes_in(stride: int):
    x = torch.full((2, 3, 5, 6), torch.inf, dtype=torch.float64, requires_grad=True)
    y = Zero(stride)(x)
    assert_close(y, torch.zeros(2, 3, -(-5 // stride), 6 // stride).double(), rtol=0, atol=0)
    assert not y.requires_grad


def test_a_skip_without_stride_hands_on_its_input():
    x = images(1, 3, 4, 4)
    assert OPERATIONS["skip_connect"].build(3, 1, True)(x) is x
    assert OPERATIONS["skip_connect"].candidate(3, 1)(x) is x


# Parameters


@pytest.mark.parametrize("channels", [4, 5, 16])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_parameters_are_weights_and_with_affine_two_per_norm(name: str, stride: int, channels: int):
    weights, norms = num_weights(name, channels, stride)
    assert num_parameters(OPERATIONS[name].build(channels, stride, False)) == weights
    assert (
        num_parameters(OPERATIONS[name].build(channels, stride, True))
        == weights + 2 * channels * norms
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_candidates_learn_convolutions_only(name: str, stride: int):
    module = OPERATIONS[name].candidate(4, stride)
    assert num_parameters(module) == num_weights(name, 4, stride)[0]
    assert all(parameter.dim() == 4 for parameter in module.parameters())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3"])
def test_candidate_pooling_has_mean_zero_and_variance_one(name: str, stride: int):
    y = OPERATIONS[name].candidate(3, stride).double()(1.0 + 5.0 * images(4, 3, 8, 8))
    assert_close(y.mean(dim=(0, 2, 3)), torch.zeros(3).double(), rtol=0, atol=1e-12)
    # Batch norm divides by the variance plus 1e-5, of about 5 here.
    variance = y.var(dim=(0, 2, 3), correction=0)
    assert_close(variance, torch.ones(3).double(), rtol=0, atol=1e-4)


# Names


def test_known_operations_pass_the_check():
    check_operations(set(OPERATIONS), "the genotype")


def test_unknown_operations_are_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"^here names unknown operations \['a', 'b'\]; ") as error:
        check_operations({"b", "sep_conv_3x3", "a"}, "here")
    assert str(error.value).endswith("known: " + ", ".join(OPERATIONS))
