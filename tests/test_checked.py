"""Shapes are checked while the tests run, at first calls."""

import pytest
import torch
from jaxtyping import TypeCheckError

from darts_gdas.nets.mixture import CellMixture
from darts_gdas.runtime.augment import Augment  # of a package without checks
from darts_gdas.search.one_hot import one_hot
from darts_gdas.space import Genotype, SearchSpace
from tests.checked import CALLS, begin_test

SPACE = SearchSpace.named("darts")
WRONG = torch.zeros(3)


@pytest.mark.parametrize("_", [1, 2], ids=["once", "and in the next test"])
def test_a_wrong_shape_is_refused_in_each_test(_: int):
    with pytest.raises(TypeCheckError, match="ops"):
        CellMixture(WRONG)


def test_a_wrong_type_is_refused():
    with pytest.raises(TypeCheckError):
        one_hot("DARTS_V2", SPACE)  # type: ignore[arg-type]


def test_later_calls_are_not_looked_at_until_the_next_test():
    for _ in range(CALLS):
        CellMixture(torch.zeros(2, 3))
    assert CellMixture(WRONG).ops is WRONG
    begin_test()
    with pytest.raises(TypeCheckError):
        CellMixture(WRONG)


def test_what_is_checked_answers_as_it_is():
    genotype = Genotype.load("DARTS_V2")
    for _ in range(CALLS + 2):
        assert one_hot(genotype, SPACE)["normal"].ops.sum() == 8
    assert one_hot.__module__ == "darts_gdas.search.one_hot"


def test_packages_without_the_hook_are_left_alone():
    assert Augment(flip=1).flip == 1  # type: ignore[arg-type]
