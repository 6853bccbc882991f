import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_gdas.report.numbers import is_number, powers, short, span, ticks
from tests.pages import number

FINITE = st.floats(-1e29, 1e29)


@given(st.lists(FINITE))
def test_any_values_have_a_range_that_can_be_divided_and_labelled(values: list[float]):
    low, high = span(values, margin=0.05)
    assert high > low and all(low <= value <= high for value in values)
    marks = ticks(low, high)
    assert len(marks) <= 6 and marks == sorted(marks)
    slack = 1e-6 * (high - low)
    assert all(low - slack <= mark <= high + slack for mark in marks)


@given(FINITE)
def test_a_short_number_says_nearly_the_same(value: float):
    assert number(short(value).replace("e+", "e")) == pytest.approx(value, rel=0.05)
    assert len(short(value)) <= 12


@pytest.mark.parametrize("value", [True, "1", None, math.nan, math.inf, 1e31, [1.0]])
def test_what_is_no_number_is_not_drawn(value: object):
    assert not is_number(value)


def test_round_numbers_are_chosen():
    assert ticks(0.0, 60.0) == [0.0, 20.0, 40.0, 60.0]
    assert ticks(0.07, 0.3, most=4) == [0.1, 0.2, 0.3]


@given(st.floats(-9, 2), st.floats(0.06, 6))
def test_every_axis_of_powers_has_numbers(low: float, wide: float):
    """Three to seven hundredths of a decade, as 0.03 to 0.035, are the least that is drawn so."""
    places = powers(low, low + wide)
    assert 2 <= len(places) <= 8 and places == sorted(places)
    assert all(low - 1e-9 <= place <= low + wide + 1e-9 for place in places)
    assert all(number(short(10**p)) == pytest.approx(10**p, rel=0.02) for p in places)
