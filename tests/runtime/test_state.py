import pytest

from darts_gdas.runtime.checkpoint import CheckpointError
from darts_gdas.runtime.state import STATE_TYPES, check_state

WHOLE = {
    "schema": 2, "kind": "walk", "fingerprint": "{}", "epoch": 1, "step": 0, "seconds": 1.5,
    "best": {}, "last": {}, "ranks": 1, "meter": [], "random": [], "task": {},
}  # fmt: skip


def test_a_whole_state_passes():
    check_state(WHOLE, "walk")


@pytest.mark.parametrize("schema", [None, 1, 3, "2"])
def test_another_version_is_named_with_what_to_do(schema: object):
    message = rf"has schema {schema!r}, this version reads 2; go on with the version that wrote it"
    with pytest.raises(CheckpointError, match=message):
        check_state(WHOLE | {"schema": schema}, "walk")


def test_a_state_with_missing_parts_is_refused():
    with pytest.raises(CheckpointError, match=r"lacks \['best', 'epoch', "):
        check_state({"schema": 2, "kind": "walk"}, "walk")


@pytest.mark.parametrize("name", sorted(STATE_TYPES.keys() - {"schema", "kind"}))
def test_a_part_of_another_type_is_refused(name: str):
    with pytest.raises(CheckpointError, match=rf"\['{name}'\] are of other types"):
        check_state(WHOLE | {name: None}, "walk")
