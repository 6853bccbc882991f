"""What a network may cost: limits that cannot be met, by the setting that was typed."""

import re

import pytest
import torch

from darts_gdas.nets import CostTable
from darts_gdas.search import Cost
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
            {"share": 0.05},
            "penalties.cost.share=0.05 (here 104.5) cannot be met: the smallest network of this "
            "space and size costs 109 (parameters), so take at least 0.1",
        ),
        (
            {"share": 0.1, "skip_limits": {"normal": 1}},
            "penalties.cost.share=0.1 (here 109) cannot be met: the smallest network of this space "
            "and size with discretizer.max_skips=1 costs 127 (parameters), so take at least 0.3",
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


@pytest.mark.parametrize("skips", [0, 1, 2])
def test_the_least_share_that_is_told_is_enough(skips: int):
    """Shares of 9, 27 and 90 in 97 are no decimal fractions: what is told is rounded up."""
    table = CostTable(SPACE, 100.0, {"normal": torch.tensor([[7.0, 70.0], [2.0, 27.0]])})
    limits = {"normal": skips}
    with pytest.raises(ValueError, match="take at least") as caught:
        Cost(share=1e-3, skip_limits=limits, table=table)
    least = float(str(caught.value).split()[-1])
    cost = Cost(share=least, skip_limits=limits, table=table)
    exact = {2: 9, 1: 34, 0: 97}[skips] / 97
    assert exact <= least < exact * (1 + 1e-5)
    assert cost.limit >= 100 + 97 * exact * (1 - 1e-12)
