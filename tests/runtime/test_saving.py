import logging

import pytest

from darts_gdas.runtime.files import WriteError
from darts_gdas.runtime.saving import OnSaveError, Saving, Writes


def test_by_default_two_are_kept_and_each_epoch_is_saved():
    saving = Saving()
    assert (saving.keep_checkpoints, saving.on_save_error) == (2, OnSaveError.stop)
    assert not any(saving.is_due(step, 5) for step in range(1, 6))


def test_steps_within_an_epoch_are_due_and_its_end_is_not_saved_twice():
    saving = Saving(checkpoint_every=2)
    assert [step for step in range(1, 7) if saving.is_due(step, 6)] == [2, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_checkpoints": 0}, "keep_checkpoints must be at least 1, got 0: a run goes on from"),
        ({"checkpoint_every": -1}, r"checkpoint_every must be at least 0 steps .* got -1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Saving(**settings)


def test_an_error_of_writing_stops_with_what_to_do():
    writes = Writes(OnSaveError.stop)
    message = (
        "^a checkpoint: full; earlier checkpoints stand. Make room and go on with the same command "
        "and resume=auto"
    )
    with pytest.raises(WriteError, match=message), writes.attempt("a checkpoint"):
        raise OSError("full")
    assert writes.facts() == {}


def test_an_error_of_writing_can_be_counted(caplog: pytest.LogCaptureFixture):
    writes = Writes(OnSaveError.warn)
    with caplog.at_level(logging.WARNING):
        for number in (1, 2):
            with writes.attempt("a checkpoint"):
                raise OSError(f"full {number}")
    with writes.attempt("a checkpoint"):
        pass
    assert writes.facts() == {"not saved": "2 times, the last a checkpoint: full 2"}
    assert "a checkpoint: full 1; going on without" in caplog.text


@pytest.mark.parametrize("policy", OnSaveError)
def test_other_errors_pass(policy: OnSaveError):
    with pytest.raises(ZeroDivisionError), Writes(policy).attempt("a checkpoint"):
        raise ZeroDivisionError
