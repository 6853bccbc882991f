"""Whose fault an error is: the mark of a program, through hydra's frames and a sweep's runs."""

import pytest
from hydra.errors import HydraException

from darts_gdas.cli import errors
from darts_gdas.cli.errors import program, usage_errors
from darts_gdas.cli.memory import OutOfMemory
from darts_gdas.cli.wording import CHOOSE_FIRST, one_line
from darts_gdas.runtime.formats.owners import reading

ANY = [KeyError("k"), ValueError("v"), OSError("o"), AssertionError("a")]
OF_INPUT = [ValueError("v"), OSError("o")]


def names(error: object) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", ANY, ids=names)
def test_while_hydra_composes_any_error_is_the_users(error: Exception, capsys):
    with pytest.raises(SystemExit) as stop, usage_errors():
        raise error
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("error", ANY, ids=names)
def test_of_a_programs_checks_wrong_values_and_files_are(error: Exception, capsys):
    expected = SystemExit if any(type(error) is type(e) for e in OF_INPUT) else type(error)
    with pytest.raises(expected), usage_errors(), program():
        raise error
    assert capsys.readouterr().err.count("\n") == (expected is SystemExit)


@pytest.mark.parametrize("error", ANY, ids=names)
def test_when_a_run_has_begun_none_is_and_it_passes_all_that_is_around(error: Exception, capsys):
    with pytest.raises(type(error)) as caught, usage_errors(), program() as mark:
        mark.blamed = ()
        raise error
    assert caught.value is error and capsys.readouterr().err == ""
    with pytest.raises(SystemExit), usage_errors():  # nothing of the mark is left
        raise error


def test_a_reason_is_told_once(capsys):
    """Errors of our own say why themselves; of hydra's the cause does."""
    with pytest.raises(SystemExit), usage_errors(), reading("a.npz"):
        raise EOFError("no end")
    assert capsys.readouterr().err == "error: a.npz cannot be read (EOFError: no end)\n"
    with pytest.raises(SystemExit), usage_errors():
        raise HydraException("it failed") from ValueError("for this")
    assert capsys.readouterr().err == "error: it failed; for this\n"


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("Unexpected type: NoneType"),
        HydraException("x\nCannot set 'perturbation.steps' because 'perturbation' is None"),
    ],
    ids=["omegaconf 2.3", "omegaconf 2.4"],
)
def test_a_setting_of_a_choice_that_is_off_says_to_choose_first(error: Exception):
    assert one_line(error) == CHOOSE_FIRST


def test_a_program_needs_no_door(capsys):
    with pytest.raises(SystemExit) as stop, program():
        raise ValueError("v")
    assert stop.value.code == 2 and capsys.readouterr().err == "error: v\n"
    with pytest.raises(ValueError, match="v"), program() as mark:
        mark.blamed = ()
        raise ValueError("v")


@pytest.mark.parametrize("fails", [False, True])
def test_between_the_runs_of_a_sweep_hydra_composes_again(
    fails: bool, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(errors.configuration, "sweeps_here", lambda: True)
    with pytest.raises(SystemExit) as stop, usage_errors():
        with program() as mark:
            mark.blamed = ()
            if fails:
                raise OutOfMemory("no room")
        raise KeyError("composing the second run")
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.endswith("error: 'composing the second run'\n")
    assert told.startswith("error: no room\n") == fails


def test_a_fault_ends_a_program_that_is_no_sweep(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(errors.configuration, "sweeps_here", lambda: False)
    with pytest.raises(SystemExit) as stop, usage_errors(), program() as mark:
        mark.blamed = ()
        raise FloatingPointError("diverged")
    assert stop.value.code == 1 and capsys.readouterr().err == "error: diverged\n"


def test_ctrl_c_says_what_is_kept(capsys):
    """While input is checked nothing; in a run that has begun, what its mark says."""
    for kept, told in ((None, "nothing was begun, and nothing is kept"), ("go on", "go on")):
        with pytest.raises(SystemExit) as stop, usage_errors(), program() as mark:
            if kept is not None:
                mark.kept = kept
            raise KeyboardInterrupt
        assert stop.value.code == 130
        assert capsys.readouterr().err == f"interrupted; {told}\n"
