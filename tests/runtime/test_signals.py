import os
import signal

import pytest

from darts_gdas.runtime.signals import Interrupted, StopRequest


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
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


def test_the_exit_status_is_that_of_the_signal():
    assert Interrupted(signal.SIGINT, "").exit_status == 130
    assert Interrupted(signal.SIGTERM, "").exit_status == 143
