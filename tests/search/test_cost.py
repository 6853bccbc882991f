"""What a network may cost: limits that cannot be met, by the setting that was typed."""

import re

import pytest
import torch

from darts_gdas.nets import CellMixture, CostTable, Mixture
from darts_gdas.search import Cost
from darts_gdas.search.affordable import most_probable
from darts_gdas.space import CellSpace, SearchSpace

OPS = ("skip_connect", "sep_conv_3x3")
SPACE = SearchSpace({"normal": CellSpace((OPS,) * 2, num_nodes=1)})
TABLE = CostTable(SPACE, 100.0, {"normal": torch.tensor([[7.0, 70.0], [2.0, 20.0]])})
"""Two edges: networks of 109, 127, 172 and 190; the operations of the dearest cost 90."""


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"target": 108.5},
            "penalties.cost.target=108.5 cannot be met: the smallest network of this space and "
            "size costs 109 (parameters), so take at least 109",
        ),
        (
            {"target": 120.0, "skip_limits": {"normal": 0}},
            "penalties.cost.target=120 cannot be met: the smallest network of this space and size "
            "with discretizer.max_skips=0 costs 190 (parameters), so take at least 190",
        ),
    ],
)
def test_a_limit_that_no_network_meets_is_told_by_its_setting(settings: dict, told: str):
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        Cost(**settings, table=TABLE)


@pytest.mark.parametrize("skips", [None, 0, 1, 2])
@pytest.mark.parametrize("share", [1e-9, 0.25, 0.5, 0.6, 1.0])
def test_a_share_goes_from_the_cheapest_network_to_the_dearest(share: float, skips: int | None):
    """By hand: 109, or 127 and 190 where skips are few; a limit that is met wherever it lies."""
    limits = {} if skips is None else {"normal": skips}
    least = {None: 109, 2: 109, 1: 127, 0: 190}[skips]
    cost = Cost(share=share, skip_limits=limits, table=TABLE)
    assert cost.limit == pytest.approx(least + share * (190 - least), rel=1e-14)
    mixture = Mixture({"normal": CellMixture(torch.tensor([[0.5, 0.5], [0.5, 0.5]]))})
    found = most_probable(mixture, TABLE, cost.allowed, limits)
    assert TABLE.of(found) <= cost.allowed


def test_a_target_takes_the_place_of_the_share():
    assert Cost(target=150.0, table=TABLE) == Cost(target=150.0, share=0.3, table=TABLE)
    assert Cost(target=150.0, share=0.3, table=TABLE).limit == 150
    with pytest.raises(ValueError, match="needs a target or a share, got null for both"):
        Cost(share=None)
