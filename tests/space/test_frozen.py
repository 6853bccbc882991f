"""`FrozenDict`: a mapping that is a value."""

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_gdas.space.frozen import FrozenDict

items = st.dictionaries(st.text(max_size=3), st.integers(), max_size=5)


@given(items)
@settings(deadline=None)
def test_reads_like_the_dict_it_was_made_from(source: dict[str, int]):
    frozen = FrozenDict(source)
    assert list(frozen.items()) == list(source.items())
    assert len(frozen) == len(source)
    assert frozen == source
    assert repr(frozen) == repr(source)


@given(items, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_equality_and_hash_ignore_the_order(source: dict[str, int], random):
    shuffled = list(source.items())
    random.shuffle(shuffled)
    assert FrozenDict(source) == FrozenDict(dict(shuffled))
    assert hash(FrozenDict(source)) == hash(FrozenDict(dict(shuffled)))


@given(items, items)
@settings(deadline=None)
def test_equal_exactly_when_the_dicts_are(first: dict[str, int], second: dict[str, int]):
    assert (FrozenDict(first) == FrozenDict(second)) == (first == second)


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_and_pickles_to_an_equal_value(clone):
    frozen = FrozenDict({"b": (1, 2), "a": (3,)})
    cloned = clone(frozen)
    assert isinstance(cloned, FrozenDict)
    assert list(cloned.items()) == [("b", (1, 2)), ("a", (3,))]
    assert hash(cloned) == hash(frozen)


def test_later_changes_of_the_source_do_not_reach_it():
    source = {"a": 1}
    frozen = FrozenDict(source)
    source["a"] = 2
    assert frozen["a"] == 1


def test_cannot_be_written():
    frozen = FrozenDict({"a": 1})
    with pytest.raises(TypeError, match="item assignment"):
        frozen["a"] = 2  # type: ignore[index]
    with pytest.raises(TypeError, match="item deletion"):
        del frozen["a"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        frozen.extra = 1  # type: ignore[attr-defined]
    assert dict(frozen) == {"a": 1}


def test_an_absent_key_is_a_key_error():
    with pytest.raises(KeyError, match="missing"):
        FrozenDict({"a": 1})["missing"]


def test_hash_asks_for_hashable_values():
    with pytest.raises(TypeError, match="unhashable"):
        hash(FrozenDict({"a": [1]}))
