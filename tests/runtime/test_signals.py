import os
import signal

import pytest

from darts_gdas.runtime.signals import SIGNALS, Interrupted, StopRequest


@pytest.mark.parametrize("signum", SIGNALS)
def test_the_first_signal_is_a_request_and_the_second_changes_nothing(signum: signal.Signals):
    with StopRequest() as request:
        assert request.signum is None
        os.kill(os.getpid(), signum)
        assert request.signum == signum
        os.kill(os.getpid(), signal.SIGINT)
        assert request.signum == signum


def test_the_third_signal_leaves_at_once():
    with pytest.raises(KeyboardInterrupt), StopRequest():
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)


def test_earlier_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.fixture
def handled():
    """Calls of an earlier handler of SIGUSR2."""
    calls: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda signum, _: calls.append(signum))
    yield calls
    signal.signal(signal.SIGUSR2, before)


def test_an_earlier_handler_is_called_on_leaving(handled: list[int]):
    with StopRequest():
        os.kill(os.getpid(), signal.SIGUSR2)
        assert handled == []  # not before the state is saved
    assert handled == [signal.SIGUSR2]


def test_an_earlier_handler_of_another_signal_is_left_alone(handled: list[int]):
    with StopRequest():
        os.kill(os.getpid(), signal.SIGTERM)
    with StopRequest():
        pass
    assert handled == []


def test_the_exit_status_is_that_of_the_signal():
    assert Interrupted(signal.SIGINT, "").exit_status == 130
    assert Interrupted(signal.SIGTERM, "").exit_status == 143
