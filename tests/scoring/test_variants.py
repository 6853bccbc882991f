"""All removals at once are what one removal after the other is, by its definition."""

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.nets import NASBENCH201, Layout, SuperNet
from darts_gdas.nets.fixed import FixedMixture
from darts_gdas.ntk import empirical_ntk, linear_regions
from darts_gdas.ntk.calls import Unsupported
from darts_gdas.scoring.supernets import without_place
from darts_gdas.scoring.variants import Place, VariantKernels, Variants, variant_regions
from darts_gdas.space import SearchSpace

DARTS: tuple[SearchSpace, Layout, tuple[Place | None, ...]] = (
    SearchSpace.darts(
        num_nodes=2, candidates=("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3")
    ),
    Layout(2, 3, 3, in_channels=2),
    (
        None,
        *(("normal", 1, "max_pool_3x3"), ("reduce", 0, "skip_connect")),
        *(("reduce", 3, name) for name in ("sep_conv_3x3", "avg_pool_3x3")),
    ),
)
NASBENCH: tuple[SearchSpace, Layout, tuple[Place | None, ...]] = (
    SearchSpace.nasbench201(candidates=("skip_connect", "nor_conv_3x3", "avg_pool_3x3")),
    Layout(2, 5, 3, in_channels=2, skeleton=NASBENCH201),
    (("cell", 0, "nor_conv_3x3"), None, ("cell", 5, "skip_connect")),
)


def supernet(space: SearchSpace, layout: Layout) -> SuperNet:
    torch.manual_seed(0)
    net = SuperNet(space, layout).double()
    for parameter in net.parameters():  # affine norms, too, unlike new ones
        with torch.no_grad():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def by_definition(net: SuperNet, place: Place | None, like: torch.Tensor) -> FixedMixture:
    return FixedMixture(net, without_place(net.space, place, like=like)).train()


@pytest.mark.parametrize("case", [DARTS, NASBENCH], ids=["darts", "nasbench201"])
@pytest.mark.parametrize("side", [4, pytest.param(9, marks=pytest.mark.slow)])
def test_kernels_are_those_of_one_variant_after_the_other(case: tuple, side: int):
    """Small images run as matrix products, large ones by the library."""
    space, layout, places = case
    net = supernet(space, layout)
    images = torch.randn(3, 2, side, side, dtype=torch.float64)
    found = VariantKernels(Variants(net), images)(places)
    for place, kernel in zip(places, found, strict=True):
        expected = empirical_ntk(
            by_definition(net, place, images),
            images,
            params="weights",
            method="jacobian",
            batch_norm="frozen",
        )
        assert_close(kernel, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("case", [DARTS, NASBENCH], ids=["darts", "nasbench201"])
@pytest.mark.parametrize("side", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_regions_are_those_of_one_variant_after_the_other(case: tuple, side: int):
    space, layout, places = case
    net = supernet(space, layout)
    ends = torch.randn(2, 2, side, side, dtype=torch.float64)
    steps = torch.linspace(0, 0.9 / side, 300).double()  # the more pixels the more regions
    inputs = torch.lerp(ends[0], ends[1], steps.view(-1, 1, 1, 1))
    variants = Variants(net)
    found = variant_regions(variants, inputs, places)
    expected = [linear_regions(by_definition(net, place, inputs), inputs) for place in places]
    assert found == expected
    assert 1 < min(found) <= max(found) < len(inputs)
    # What does not differ is computed once.
    assert variant_regions(variants, inputs, [places[0]] * 2) == 2 * expected[:1]


def test_what_has_weights_or_buffers_of_its_own_kind_is_left_to_the_definition():
    space = SearchSpace.darts(num_nodes=1, candidates=("sep_conv_3x3", "noise"))
    with pytest.raises(Unsupported, match="is no layer whose derivatives are known"):
        Variants(SuperNet(space, Layout(2, 3, 3)))
