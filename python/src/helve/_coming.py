"""The connection of calls that are made on an event loop while the program's durable node is being started again (see _driver.connection).

A program whose node was killed waits for the next one, for up to 10 s. A thread may stand still meanwhile; an event loop may not, because its other tasks go
on. For example, a web server of the program's own calls a deployment for each request: while the node is away it answers requests for static files at once.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, Optional

from helve._call import Call


class ComingConnection:
    """Stands for a connection that a thread waits for. What is posted to it is posted to the connection as soon as that is there. If it does not come, the
    calls fail with the reason.
    """

    # A call looks at these attributes of its connection.
    lost = over = None
    was_forked = segments = False
    thread_id = 0

    def __init__(self, find: Callable[[], Any]):
        self.settled = False
        self._found: Optional[Any] = None
        self._error: Optional[BaseException] = None
        self._posted: list = []
        self._lock = threading.Lock()
        threading.Thread(target=self._wait, args=(find,), name="helve-coming", daemon=True).start()

    @property
    def loop(self) -> Any:
        """In the place of an event loop, which is not known yet."""
        return self

    def post(self, fn: Callable, *args: Any) -> None:
        """Runs fn on the loop of the connection, after the functions that were posted before."""
        with self._lock:
            if not self.settled:
                self._posted.append((fn, args))
                return
        if self._found is not None:
            self._found.post(fn, *args)
        else:
            fn(*args)

    call_soon_threadsafe = post

    def start(self, call: Call, *args: Any) -> None:
        """Starts a call. It runs on the loop of the connection, or in any thread if there is none."""
        if self._found is None:
            call.finish(None, self._error)
            return
        call.conn = self._found
        if call.cancelled:
            call.cancel()
        else:
            call.conn.start(call, *args)

    def fetch(self, part: Any) -> Any:
        """The call that fetches a result, for a call that has it as an argument. It runs on the loop of the connection."""
        assert self._found is not None
        return self._found.fetch(part)

    def _wait(self, find: Callable[[], Any]) -> None:
        try:
            self._found = find()
        except BaseException as e:
            self._error = e
        while True:
            with self._lock:
                posted, self._posted = self._posted, []
                if self._found is not None:  # under the lock, so that no other function goes ahead of them
                    for fn, args in posted:
                        self._found.post(fn, *args)
                    posted = []
                if not posted:
                    self.settled = True
                    return
            for fn, args in posted:
                fn(*args)


__all__ = ["ComingConnection"]
