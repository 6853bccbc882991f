"""What stands around the cells of a DARTS network."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from darts_gdas.nets import DARTS, Layout, Stem
from darts_gdas.nets.blocks import ImageNetStem, SmallImageStem

SMALL = Layout(4, 3, 10, in_channels=2)


def test_the_layout_names_the_stem():
    assert isinstance(DARTS.build_stem(SMALL), SmallImageStem)
    large = Layout(4, 3, 10, in_channels=2, stem=Stem.imagenet)
    assert isinstance(DARTS.build_stem(large), ImageNetStem)


def test_states_enter_after_a_relu():
    images = torch.randn(2, 2, 8, 8)
    stem = DARTS.build_stem(SMALL).eval()
    first, second = DARTS.enter(stem, images)
    assert first is second
    assert_close(first, F.relu(stem(images)[0]))
    stem = DARTS.build_stem(Layout(4, 3, 10, in_channels=2, stem=Stem.imagenet)).eval()
    states = DARTS.enter(stem, images)
    assert_close(states, tuple(F.relu(state) for state in stem(images)))


def test_nothing_stands_before_the_pooling():
    tail, features = DARTS.build_tail(SMALL, 8)
    assert isinstance(tail, nn.Identity) and features == 8
