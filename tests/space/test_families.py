from darts_gdas.nets import OPERATIONS
from darts_gdas.space import Family, family_of


def test_names_of_built_in_operations_tell_their_families():
    parts = {"dil": Family.dilated, "sep": Family.separable, "pool": Family.pool,
             "skip": Family.skip, "none": Family.none, "": Family.other}  # fmt: skip
    for name in OPERATIONS:
        assert family_of(name) is next(parts[part] for part in parts if part in name)


def test_an_unknown_operation_is_of_no_family_of_its_own():
    assert family_of("separate_pool") is Family.other
