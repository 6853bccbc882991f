"""Removals measured together are the removals measured by their definition."""

import torch
from torch.testing import assert_close

from darts_gdas.nets import Layout, SuperNet, register_operation
from darts_gdas.nets.fixed import FixedMixture
from darts_gdas.ntk import condition_number, empirical_ntk
from darts_gdas.scoring.correlation import kendall_tau
from darts_gdas.scoring.supernets import Measurement, Supernets, without_place
from darts_gdas.search import ArchParameters
from darts_gdas.space import SearchSpace
from tests.registries import parts_put_back
from tests.scoring.test_scores import Listed

SMALL = SearchSpace.darts(num_nodes=2, candidates=("none", "skip_connect", "sep_conv_3x3"))


def supernets(*candidates: str, region_samples: int) -> tuple[Supernets, list]:
    space = SearchSpace.darts(num_nodes=1, candidates=candidates)
    remaining = {kind: [list(candidates)] * 2 for kind in space.cells}
    images = torch.randn(6, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    how = Measurement(Layout(2, 3, 3, in_channels=2), images, 1, region_samples, seed=3)
    places = [(kind, edge, name) for kind in space.cells for edge in (0, 1) for name in candidates]
    return Supernets(space, remaining, how, 0), [None, *places]


def test_they_order_candidates_as_their_definitions_do():
    """In float32, whose rounding differs: a region more or less, a condition to six digits."""
    found, without = supernets(
        *("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5"), region_samples=600
    )
    numbers = found.measure(without)
    conditions, regions = zip(*map(found.measure_alone, without), strict=True)
    assert_close([row["condition"] for row in numbers], [*conditions], rtol=1e-4, atol=0)
    assert kendall_tau([row["condition"] for row in numbers], conditions).value >= 0.98
    assert kendall_tau([row["regions"] for row in numbers], regions).value >= 0.98


def test_what_cannot_be_measured_together_is_measured_by_its_definition():
    """Noise is drawn for a batch as a whole."""
    found, without = supernets("noise", "skip_connect", region_samples=20)
    numbers = found.measure(without[:2])
    alone = [found.measure_alone(place) for place in without[:2]]
    assert numbers == [{"condition": c, "regions": float(r)} for c, r in alone]


def test_a_weight_that_a_list_holds_counts_in_a_supernet_too():
    """Transforms do not see it; with an operation left out they could be asked in vain."""
    with parts_put_back():
        register_operation("listed", Listed)
        found, without = supernets("listed", "skip_connect", region_samples=20)
        numbers = found.measure(without[:3])
        for place, row in zip(without, numbers, strict=False):
            mixture = without_place(found.kernel_net.space, place, like=found.images)
            net = FixedMixture(found.kernel_net, mixture).train()
            kernel = empirical_ntk(
                net, found.images, params="weights", method="loop", batch_norm="frozen"
            )
            assert_close(row["condition"], condition_number(kernel), rtol=1e-3, atol=0)


def test_the_mixture_leaves_one_candidate_out_and_shares_its_edge():
    mixture = without_place(SMALL, ("reduce", 1, "sep_conv_3x3"), like=torch.zeros(1))
    third = torch.full((5, 3), 1 / 3)
    assert_close(mixture["normal"].ops, third)
    expected = third.clone()
    expected[1] = torch.tensor([0.5, 0.5, 0.0])
    assert_close(mixture["reduce"].ops, expected)
    SuperNet.build(SMALL, channels=2, layers=3)(torch.randn(2, 3, 8, 8), mixture)
    assert ArchParameters(SMALL).logits["normal"].shape == expected.shape
