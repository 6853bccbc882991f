"""Settings of every run: what has no meaning is refused with its name and value."""

import pytest

from darts_gdas.config.run import RunConfig
from darts_gdas.runtime.compilation import Compilation
from darts_gdas.runtime.datasets import Digits
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.finite import OnNonFinite


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"accumulate": 0}, r"accumulate must lie in 1\.\.32 .* got 0"),
        ({"accumulate": 33}, r"accumulate must lie in 1\.\.32 .* got 33"),
        ({"accumulate": 2, "sync_batch_norm": True}, "leave one out"),
        (
            {"sync_batch_norm": True, "compile": Compilation.inductor},
            "sync_batch_norm=true waits for other ranks inside the cells, which compile=inductor",
        ),
        ({"rank_timeout_minutes": 0.0}, r"rank_timeout_minutes must be positive, got 0\.0"),
        ({"max_skips": 0}, "max_skips must be at least 1, got 0"),
    ],
)
def test_what_has_no_meaning_is_refused(given: dict, message: str):
    with pytest.raises(ValueError, match=message):
        RunConfig(dataset=Digits(), **given)


def test_the_guard_is_as_set():
    config = RunConfig(dataset=Digits(), on_nonfinite=OnNonFinite.skip, max_skips=3)
    guard = config.guard(Ranks(1, 2))
    assert (guard.policy, guard.limit, guard.ranks.size) == (OnNonFinite.skip, 3, 2)
