"""The end of `helve run`: the first SIGINT or SIGTERM drains the node, a second one ends it at once."""

from __future__ import annotations

import signal
import time
from typing import Any

from helve._errors import ReplicaUnavailableError
from helve._wake import Wake

BURST = 1.25  # seconds in which signals are one wish; the node has a rule of its own, with one second from the end of the connection
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Wishes:
    """The signals of a command that serves. For example, with `timeout 10 helve run app:app` SIGTERM comes twice within microseconds, which is the
    first wish alone; a Ctrl-C five seconds later is the second one, and cuts off calls that still run.
    """

    def __init__(self) -> None:
        self.ended = Wake()  # set by the first signal, and by the end of the node
        self.first = 0.0
        self.serving = False  # the first wish ends wait(), and is no KeyboardInterrupt
        for s in SIGNALS:
            signal.signal(s, self._take)

    def _take(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if not self.first:
            self.first = now
            self.ended.set()
            if not self.serving:  # an application that still starts is given up
                raise KeyboardInterrupt
        elif now - self.first >= BURST:
            raise KeyboardInterrupt

    def wait(self, driver: Any) -> int:
        """Waits for a signal, or for the end of the node, and drains. A durable node comes back. The result is the exit status."""
        from helve import _driver

        self.serving = True
        while True:
            driver.on_end(self.ended.set)
            while not self.ended.wait(3600):
                pass
            if not driver.durable or driver.closing:
                return self.end(driver)
            self.ended.clear()
            if self.first:  # looked at after clear(), which may have taken a signal back
                return self.end(driver)
            try:
                driver = _driver.running()
            except ReplicaUnavailableError:  # it does not come back
                return self.end(driver)

    def end(self, driver: Any) -> int:
        """Drains, and ends the node."""
        from helve import serve
        from helve._flags import Mistake

        self.serving = True
        if driver.conn.over is not None and not driver.closing and not self.first:
            raise Mistake(str(driver.conn.over.exception()), 1)
        serve.shutdown()
        return 0


__all__ = ["Wishes"]
