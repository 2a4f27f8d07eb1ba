import os
import signal
import threading

import pytest

from condetr.engine.interrupt import StopRequest


def test_sigterm_is_noted_and_then_obeyed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        with pytest.raises(SystemExit, match="143"):
            stop.end()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_control_c_ends_at_once() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_training_in_another_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)

    def look() -> None:
        with StopRequest():
            assert signal.getsignal(signal.SIGINT) == before

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
