"""The flag that a signal handler sets, at each line of the code that waits for it."""

import signal
import sys
import threading

import pytest
from helve import _wake
from helve._wake import Wake


def interrupted(wake, at):
    """Whether the handler has run, which sets the flag before the line number `at` of the wait."""
    passed = 0

    def trace(frame, event, _):
        nonlocal passed
        if frame.f_code.co_filename not in (_wake.__file__, threading.__file__):
            return None
        if event == "line":
            passed += 1
            if passed == at:
                signal.raise_signal(signal.SIGUSR1)
        return trace

    before, handler = sys.gettrace(), signal.signal(signal.SIGUSR1, lambda *_: wake.set())
    sys.settrace(trace)
    try:
        wake.wait(0.001)
    finally:
        sys.settrace(before)
        signal.signal(signal.SIGUSR1, handler)
    return passed >= at


def test_a_handler_may_set_it_at_each_line_of_the_wait():
    at = 1
    while interrupted(wake := Wake(), at):
        assert wake.is_set() and wake.wait(60)
        at += 1
    assert at > 3 and not wake.is_set()


@pytest.mark.timeout(60)
def test_another_thread_wakes_it_again_and_again():
    wake, go = Wake(), threading.Semaphore(0)

    def sets():
        for _ in range(200):
            go.acquire()
            wake.set()

    thread = threading.Thread(target=sets)
    thread.start()
    for _ in range(200):
        go.release()
        while not wake.wait(3600):
            pass
        assert wake.is_set()
        wake.clear()
        assert not wake.is_set() and not wake.wait(0)
    thread.join()
