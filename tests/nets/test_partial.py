"""Partial channels: which channels go where, what they cost, and what K allows."""

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.nets import CellMixture, Layout, Mixture, SuperNet
from darts_gdas.nets.partial import (
    check_partial_channels,
    first_channels,
    passing_channels,
    shuffled,
)
from darts_gdas.space import SearchSpace
from tests.oracles import per_pixel

DARTS = SearchSpace.named("darts")


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).double()


def test_the_shuffle_deals_the_groups_like_cards():
    x = torch.arange(12.0).view(1, 12, 1, 1).expand(2, 12, 3, 1)
    expected = [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]  # three groups of four
    assert_close(shuffled(x, 3)[0, :, 0, 0], torch.tensor(expected).float())


@pytest.mark.parametrize(("groups", "channels"), [(1, 6), (2, 6), (3, 6), (4, 16)])
def test_dealing_into_the_other_number_of_groups_undoes_a_shuffle(groups: int, channels: int):
    x = images(2, channels, 3, 4)
    assert torch.equal(shuffled(shuffled(x, groups), channels // groups), x)


def test_every_channel_is_seen_or_passes_by():
    x = images(2, 8, 4, 4)
    parts = first_channels(x, 2), passing_channels(x, 2, stride=1)
    assert torch.equal(torch.cat(parts, dim=1), x)


@pytest.mark.parametrize("size", [(8, 8), (7, 9)], ids=str)
def test_strided_edges_keep_the_largest_of_four_pixels(size: tuple[int, int]):
    x = images(2, 8, *size)
    expected = per_pixel(
        x[:, 2:], 2, lambda image, i, j: image[:, i : i + 2, j : j + 2].amax(dim=(1, 2))
    )
    assert torch.equal(passing_channels(x, 2, stride=2), expected)


def test_the_pc_darts_supernet_has_299_578_weights():
    """C=16, 8 cells, K=4, as the authors' network (Xu et al., section 4.2)."""
    net = SuperNet.build(DARTS, partial_channels=4)
    assert sum(parameter.numel() for parameter in net.parameters()) == 299_578


def test_all_channels_are_the_network_without_the_option():
    torch.manual_seed(0)
    plain = SuperNet(DARTS, Layout(4, 3, 3))
    torch.manual_seed(0)
    all_channels = SuperNet(DARTS, Layout(4, 3, 3), partial_channels=1)
    mixture = Mixture(
        {kind: CellMixture(torch.rand(14, 8), torch.rand(14)) for kind in DARTS.cells}
    )
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(plain(x, mixture), all_channels(x, mixture))


def test_edges_that_are_all_none_still_let_channels_pass():
    """With every candidate `none` the logits depend on the images through the bypass alone."""
    net = SuperNet(DARTS, Layout(8, 3, 3), partial_channels=4).double().eval()
    none = CellMixture(torch.eye(8).double()[[0] * 14], active=(0,) * 14)
    x = images(1, 3, 8, 8)
    cells = [parameter for name, parameter in net.cells.named_parameters() if "edges" in name]
    logits = net(x, Mixture({kind: none for kind in DARTS.cells}))
    assert (net(2 * x, Mixture({kind: none for kind in DARTS.cells})) - logits).abs().max() > 1e-6
    found = torch.autograd.grad(logits.sum(), cells, allow_unused=True)
    assert all(gradient is None for gradient in found)


@pytest.mark.parametrize(
    ("partial_channels", "channels", "message"),
    [
        (0, 16, r"partial_channels must be at least 1 \(1 runs all channels\), got 0"),
        (3, 16, r"multiple of partial_channels=3 and at least 6, got 16"),
        (16, 16, r"multiple of partial_channels=16 and at least 32, got 16"),
    ],
)
def test_a_share_that_is_no_number_of_channels_is_an_error(
    partial_channels: int, channels: int, message: str
):
    with pytest.raises(ValueError, match=message):
        check_partial_channels(partial_channels, channels)
    with pytest.raises(ValueError, match=message):
        SuperNet(DARTS, Layout(channels, 3, 3), partial_channels=partial_channels)
