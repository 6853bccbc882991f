"""Stems, and how states enter a cell."""

import pytest
import torch

from darts_gdas.nets import Layout, Stem
from darts_gdas.nets.blocks import ImageNetStem, SmallImageStem, build_inputs
from darts_gdas.nets.layout import CellPlan


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 9)])
def test_the_small_stem_keeps_the_resolution(height: int, width: int):
    stem = SmallImageStem(Layout(4, 3, 10, in_channels=2))
    first, second = stem(torch.randn(2, 2, height, width))
    assert first is second
    assert first.shape == (2, 12, height, width)
    assert Stem.cifar.stride == 1


@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 40)])
def test_the_imagenet_stem_leaves_at_a_fourth_and_an_eighth(channels: int, height: int, width: int):
    stem = ImageNetStem(Layout(channels, 3, 10, in_channels=2, stem=Stem.imagenet))
    first, second = stem(torch.randn(2, 2, height, width))
    assert first.shape == (2, channels, -(-height // 4), -(-width // 4))
    assert second.shape == (2, channels, -(-height // 8), -(-width // 8))
    assert Stem.imagenet.stride == 8


def test_a_single_state_enters_a_cell_as_it_is():
    (module,) = build_inputs(CellPlan("normal", 4, (4,)), affine=True)
    x = torch.randn(2, 4, 3, 3)
    assert module(x) is x
    assert module.after_relu(x) is x  # type: ignore[operator]
    assert not list(module.parameters())
