from pathlib import Path

import pytest
import torch

from darts_gdas.runtime.distributed import (
    ALONE,
    FirstRankFailed,
    Ranks,
    digest,
    same_fate,
)
from tests.ranks import on_ranks


def test_averages_and_sums_are_those_of_the_ranks_in_every_format_and_shape(tmp_path: Path):
    def work(ranks: Ranks) -> list[list[float]]:
        wide = torch.full((2, 3), 1.0 + ranks.rank, dtype=torch.float64)
        last = torch.arange(24.0).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
        last = last * (ranks.rank + 1)
        count = torch.tensor(ranks.rank)
        ranks.average_([wide, last])
        ranks.add_([count])
        return [wide.flatten().tolist(), last.flatten().tolist(), [count.item()]]

    found = on_ranks(work, tmp_path, size=3)
    assert found[0] == [[2.0] * 6, [2.0 * i for i in range(24)], [3]]
    assert found[0] == found[1] == found[2]


def test_a_process_by_itself_changes_nothing_and_waits_for_nobody():
    x = torch.ones(2)
    ALONE.average_([x])
    ALONE.add_([x])
    assert x.tolist() == [1, 1] and ALONE.largest(3) == 3 and ALONE.gather("a") == ["a"]
    assert ALONE.from_first(lambda: 5) == 5 and ALONE.is_first
    ALONE.check_agreement("x", "y")
    ALONE.wait()


def test_values_travel_between_ranks(tmp_path: Path):
    def work(ranks: Ranks) -> tuple:
        made = ranks.from_first(lambda: {"from": ranks.rank})
        return ranks.gather(str(ranks.rank)), ranks.largest(10 - ranks.rank), made

    assert on_ranks(work, tmp_path) == [(["0", "1"], 10, {"from": 0})] * 2


def test_what_fails_on_the_first_rank_fails_on_all(tmp_path: Path):
    def work(ranks: Ranks) -> str:
        def make() -> None:
            raise ValueError("no such folder")

        with pytest.raises(ValueError if ranks.is_first else FirstRankFailed) as error:
            ranks.from_first(make)
        return str(error.value)

    assert on_ranks(work, tmp_path) == [
        "no such folder", "rank 0 failed: ValueError: no such folder"
    ]  # fmt: skip


@pytest.mark.parametrize("culprit", [0, 1])
def test_an_error_on_one_rank_is_one_on_all(tmp_path: Path, culprit: int):
    def work(ranks: Ranks) -> str:
        with pytest.raises(ValueError) as error, same_fate(ranks, ValueError):
            if ranks.rank == culprit:
                raise ValueError("no data here")
        return str(error.value)

    expected = [f"on rank {culprit}: no data here"] * 2
    expected[culprit] = "no data here"
    assert on_ranks(work, tmp_path) == expected


def test_what_fails_on_the_first_rank_within_it_is_told_by_that_one_alone(tmp_path: Path):
    def work(ranks: Ranks) -> str:
        def make() -> None:
            raise ValueError("no such genotype")

        kind = ValueError if ranks.is_first else FirstRankFailed
        with pytest.raises(kind) as error, same_fate(ranks, ValueError):
            ranks.from_first(make)
        ranks.wait()  # all came here
        return str(error.value)

    assert on_ranks(work, tmp_path) == [
        "no such genotype", "rank 0 failed: ValueError: no such genotype"
    ]  # fmt: skip


def test_ranks_that_differ_are_told_so_on_all_of_them(tmp_path: Path):
    def work(ranks: Ranks) -> str:
        ranks.check_agreement("the weights", digest([torch.ones(3)], "same"))
        with pytest.raises(RuntimeError, match="the ranks disagree about the weights") as error:
            ranks.check_agreement("the weights", digest([torch.tensor(float(ranks.rank))]))
        return str(error.value)

    one, other = on_ranks(work, tmp_path)
    assert one == other and "rank 0 has" in one and "rank 1 has" in one


def test_a_digest_tells_values_and_texts_apart():
    x = torch.tensor([1.0, 2.0])
    assert digest([x], "a") == digest([x.clone()], "a")
    assert len({digest([x], "a"), digest([x], "b"), digest([x + 1e-7], "a"), digest([], "a")}) == 4
