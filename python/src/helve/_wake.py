"""A flag that a thread waits for, and that a signal handler may set."""

from __future__ import annotations

import queue


class Wake:
    """As threading.Event, for one thread that waits, and safe in a signal handler. An Event has a lock, which wait() holds for moments: a handler that runs in such a moment of its
    own thread, and calls set(), waits for that lock for ever. For example, `helve run --reload` waits for its flag several times a second: a SIGTERM that came in such a moment had
    no effect, nor had a second one. put() of the queue here may interrupt get() (the documentation of queue.SimpleQueue says so).
    """

    def __init__(self) -> None:
        self._on = False
        self._told: queue.SimpleQueue = queue.SimpleQueue()

    def set(self) -> None:
        self._on = True
        self._told.put(None)

    def clear(self) -> None:
        self._on = False
        try:
            while True:
                self._told.get_nowait()
        except queue.Empty:  # a set() beside this one leaves the flag on, which wait() looks at first
            pass

    def is_set(self) -> bool:
        return self._on

    def wait(self, timeout: float) -> bool:
        """Whether the flag is set; waits for that for at most timeout seconds, or less."""
        if not self._on:
            try:
                self._told.get(timeout=timeout)
            except queue.Empty:
                pass
        return self._on


__all__ = ["Wake"]
