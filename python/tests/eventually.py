"""A wait for a state of a node that no event announces: it is asked for again and again."""

import threading
import time

LIMIT = 120.0  # seconds; a machine that tests share is slow at times
_never = threading.Event()


def eventually(look):
    """The result of look as soon as it is true."""
    end = time.monotonic() + LIMIT
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"it was not so within {LIMIT:g} s"
        _never.wait(0.02)
