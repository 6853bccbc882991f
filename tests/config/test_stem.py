import logging

import pytest
import torch
from torch import nn

from darts_gdas.config.network import NetConfig
from darts_gdas.config.stem import StemChoice, tell_memory
from darts_gdas.nets import Stem
from darts_gdas.nets.costs import whole
from darts_gdas.nets.layout import SKELETONS
from darts_gdas.space import SearchSpace


@pytest.mark.parametrize(
    ("choice", "size", "skeleton", "expected"),
    [
        ("auto", (32, 32), "darts", "cifar"),
        ("auto", (95, 300), "darts", "cifar"),
        ("auto", (96, 96), "darts", "imagenet"),
        ("auto", (300, 128), "darts", "imagenet"),
        ("auto", None, "darts", "cifar"),
        ("auto", (224, 224), "nasbench201", "cifar"),
        ("cifar", (224, 224), "darts", "cifar"),
        ("imagenet", (32, 32), "darts", "imagenet"),
    ],
)
def test_the_stem_follows_the_choice_or_the_shorter_side(choice, size, skeleton, expected):
    found = StemChoice(choice).stem(SKELETONS[skeleton], size)
    assert found is Stem(expected)
    space = SearchSpace.named(skeleton)
    config = NetConfig(stem=StemChoice(choice), layers=5)
    assert config.layout(space, num_classes=2, in_channels=1, image_size=size).stem is found


def test_the_memory_of_large_images_is_what_autograd_keeps(caplog: pytest.LogCaptureFixture):
    """A convolution keeps its input, and the ReLU its output: per image 4 B * 128^2 * (1 + 2)."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    with caplog.at_level(logging.WARNING):
        tell_memory(net, whole, (1, 32, 32), stem=Stem.cifar, batch_size=64)
        assert not caplog.messages
        tell_memory(net, whole, (1, 128, 128), stem=Stem.imagenet, batch_size=16384)
    (message,) = caplog.messages
    assert "128x128 pixels" in message and "behind the imagenet stem (net.stem)" in message
    assert "a step on 16384 of them is expected to keep 3,072 MiB" in message
    assert all(p.device == torch.device("cpu") for p in net.parameters())
