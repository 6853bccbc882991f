"""Of what is asked to be measured, what has no meaning is refused."""

from collections.abc import Callable

import pytest

from darts_gdas.tasks.diagnostics import Diagnostics


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Diagnostics(eigenvalue_every=-1), "eigenvalue_every must be at least 0, got -1"),
        (lambda: Diagnostics(eigenvalue_batches=0), "eigenvalue_batches must be at least 1, got 0"),
        (lambda: Diagnostics(stop_below=1.5), r"stop_below must lie in 0..1, got 1.5"),
        (lambda: Diagnostics(stop_below=0.5), "no effect without the eigenvalue"),
    ],
)
def test_values_without_meaning_are_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_two_windows_and_the_first_epoch_that_may_be_returned_take_so_many():
    """By hand: windows of 5 need 10 epochs; 10 is the middle, third of five, of 8 to 12: 18."""
    paper = Diagnostics(eigenvalue_every=1, stop_below=0.75)
    assert paper.epochs_to_stop() == 18
    early = Diagnostics(eigenvalue_every=1, stop_below=0.75, stop_first_epoch=0)
    assert early.epochs_to_stop() == 10
    assert early.epochs_to_stop(15) == 25 and paper.epochs_to_stop(15) == 25
