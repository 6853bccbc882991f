"""When operations stop: what the rule accepts, and when it watches at all."""

import pytest

from darts_gdas.search.operation_stop import OperationStop


def test_at_the_smallest_cosine_nothing_is_watched():
    assert not OperationStop().watches
    assert OperationStop(threshold=0.4).watches and OperationStop(threshold=0.4).steps == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"threshold": 1.5}, r"operation_stop.threshold must lie in -1..1, got 1.5"),
     ({"steps": 0}, "operation_stop.steps must be at least 1, got 0")],
)  # fmt: skip
def test_values_without_meaning_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        OperationStop(**settings)
