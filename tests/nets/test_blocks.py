"""Stems, residual blocks and what else stands around the cells."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from darts_gdas.nets import Layout, Skeleton, Stem
from darts_gdas.nets.blocks import (
    ResidualReduction,
    build_inputs,
    build_stem,
    build_tail,
    entering_states,
)
from darts_gdas.nets.layout import CellPlan
from tests.oracles import residual_reduction

NB201 = Layout(4, 5, 10, in_channels=2, skeleton=Skeleton.nasbench201)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 9)])
def test_the_small_stem_keeps_the_resolution(height: int, width: int):
    stem = build_stem(Layout(4, 3, 10, in_channels=2))
    first, second = stem(torch.randn(2, 2, height, width))
    assert first is second
    assert first.shape == (2, 12, height, width)
    assert Stem.cifar.stride == 1


@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 40)])
def test_the_imagenet_stem_leaves_at_a_fourth_and_an_eighth(channels: int, height: int, width: int):
    stem = build_stem(Layout(channels, 3, 10, in_channels=2, stem=Stem.imagenet))
    first, second = stem(torch.randn(2, 2, height, width))
    assert first.shape == (2, channels, -(-height // 4), -(-width // 4))
    assert second.shape == (2, channels, -(-height // 8), -(-width // 8))
    assert Stem.imagenet.stride == 8


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5)])
def test_the_residual_block_is_its_definition(height: int, width: int):
    block = ResidualReduction(CellPlan("residual", 6, (4,))).double()
    x = torch.randn(3, 4, height, width, dtype=torch.float64)
    y = block((x,), rectify=False)
    assert y.shape == (3, 6, -(-height // 2), -(-width // 2))
    assert_close(y, residual_reduction(block, x))
    assert_close(block((x,), rectify=True), y.relu())


def test_a_single_state_enters_a_cell_as_it_is():
    (module,) = build_inputs(CellPlan("normal", 4, (4,)), affine=True)
    x = torch.randn(2, 4, 3, 3)
    assert module(x) is x
    assert module.after_relu(x) is x  # type: ignore[operator]
    assert not list(module.parameters())


def test_states_enter_a_darts_network_after_a_relu_and_the_other_as_they_are():
    images = torch.randn(2, 2, 8, 8)
    darts = Layout(4, 3, 10, in_channels=2)
    stem = build_stem(darts).eval()
    first, second = entering_states(darts, stem, images)
    assert first is second
    assert_close(first, F.relu(stem(images)[0]))
    stem = build_stem(NB201).eval()
    (state,) = entering_states(NB201, stem, images)
    assert state.shape == (2, 4, 8, 8)
    assert (state < 0).any()


def test_only_the_nas_bench_network_ends_in_norm_and_relu():
    assert isinstance(build_tail(Layout(4, 3, 10), 8), nn.Identity)
    x = torch.randn(5, 8, 4, 4, dtype=torch.float64)
    y = build_tail(NB201, 8).double()(x)
    assert_close(y, F.relu(F.batch_norm(x, None, None, training=True)))
