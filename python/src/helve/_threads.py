"""The threads of a replica's sync methods, if these do not run on the event loop."""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Callable

from helve import raycompat

IDLE = 10.0  # seconds that a thread waits for the next function


def threads_wanted() -> bool:
    """Whether methods that are not async run in threads. The environment says it; without a word of it they do for programs for Ray Serve, which
    wait in such methods: for example, `handle.remote(x).result()` in a `def` method would block the loop on which its own answer comes.
    """
    return os.environ.get("RAY_SERVE_RUN_SYNC_IN_THREADPOOL") in (("1", None) if raycompat.wanted() else ("1",))


class Threads:
    """Runs each function at once, in a new thread or in an idle one. The number of threads has no limit of its own:
    the replica's gate has one, and a second, lower limit would hold calls that have their slots. For example,
    with a pool of 10 threads, 10 calls of one deployment have all threads, and each waits for a call to the same
    deployment; these have slots too, but no thread, and so no call ends. Health checks take no slot, and do not
    wait for a thread either.

    The threads are daemons: none of them delays the end of the process.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: list[SimpleQueue] = []  # queues of idle threads, the last that became idle at the end
        self.waiting: deque = deque()  # functions for the next idle thread, when the system gives no more threads
        self.count = 0
        self.closed = False

    def close(self) -> None:
        """Ends the idle threads now, and the others when their functions have ended."""
        with self.lock:
            self.closed = True
            idle, self.idle = self.idle, []
            self.count -= len(idle)
        for inbox in idle:
            inbox.put(None)

    def submit(self, fn: Callable[[], Any]) -> Future:
        """The future of fn's result. RuntimeError if the system gives no thread, and there is none yet."""
        future: Future = Future()
        future.set_running_or_notify_cancel()  # a running function cannot be interrupted
        work = (future, fn)
        with self.lock:
            if self.idle:
                self.idle.pop().put(work)
                return future
            self.count += 1
        inbox: SimpleQueue = SimpleQueue()
        inbox.put(work)
        try:
            threading.Thread(target=self.serve, args=(inbox,), name="helve-sync", daemon=True).start()
        except RuntimeError:
            with self.lock:
                self.count -= 1
                if self.idle:
                    self.idle.pop().put(work)
                elif self.count == 0:
                    raise
                else:
                    self.waiting.append(work)
        return future

    def serve(self, inbox: SimpleQueue) -> None:
        while True:
            try:
                work = inbox.get(timeout=IDLE)
                if work is None:
                    return
                future, fn = work
                del work
            except Empty:
                with self.lock:
                    if inbox in self.idle:
                        self.idle.remove(inbox)
                        self.count -= 1
                        return
                continue  # it has just been given a function
            error = value = None
            try:
                value = fn()
            except BaseException as e:
                error = e
            with self.lock:  # before the future is completed, so that the next call of the same caller finds this thread idle
                if self.waiting:
                    inbox.put(self.waiting.popleft())
                elif self.closed:
                    self.count -= 1
                    inbox.put(None)
                else:
                    self.idle.append(inbox)
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)
            del future, fn, value, error  # otherwise the thread would keep the last result for as long as it is idle


__all__ = ["Threads", "threads_wanted"]
