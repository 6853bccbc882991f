from pathlib import Path

import torch

from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.meter import Meter
from tests.ranks import on_ranks


def filled(*batches: tuple[float, int]) -> Meter:
    meter = Meter()
    for total, count in batches:
        meter.add({"loss": (torch.tensor(total), count)})
    return meter


def test_a_meter_weighs_batches_by_their_size():
    meter = filled((6.0, 3), (2.0, 1))
    assert meter.means() == {"loss": 2.0}
    assert Meter().means() == {}


def test_saved_sums_come_back_from_one_rank_or_several():
    parts, other = [filled((6.0, 3)), filled((2.0, 1))], Meter()
    other.load_state_dicts([part.state_dict() for part in parts], torch.device("cpu"))
    assert other.means() == {"loss": 2.0}
    other.load_state_dicts([], torch.device("cpu"))
    assert other.means() == {}


def test_means_over_ranks_are_those_of_all_samples(tmp_path: Path):
    def work(ranks: Ranks) -> tuple[dict, dict]:
        meter = filled((6.0, 3) if ranks.is_first else (2.0, 1))
        return meter.over(ranks).means(), meter.means()

    assert on_ranks(work, tmp_path) == [
        ({"loss": 2.0}, {"loss": 2.0}),
        ({"loss": 2.0}, {"loss": 2.0}),
    ]
