"""How the code of a replica learns that its drain has begun."""

from __future__ import annotations

import asyncio
import threading


class Drain:
    """The drain of the replica in this process. Code on any thread or event loop asks. For example, a WebSocket without an end waits in one task
    for the next message and in another for the drain; ``begin``, on the worker's loop, wakes the latter.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun = False
        self.waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Future]] = set()

    def begin(self) -> None:
        with self.lock:
            self.begun = True
            waiting, self.waiting = self.waiting, set()
        for loop, future in waiting:
            try:
                loop.call_soon_threadsafe(_wake, future)
            except RuntimeError:  # the loop is closed, and the task with it
                pass

    def reset(self) -> None:
        """Another node has taken the replica over, and says anew when its drain begins."""
        with self.lock:
            self.begun = False

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        entry = loop, loop.create_future()
        with self.lock:
            if self.begun:
                return
            self.waiting.add(entry)
        try:
            await entry[1]
        finally:
            with self.lock:
                self.waiting.discard(entry)


def _wake(future: asyncio.Future) -> None:
    if not future.done():
        future.set_result(None)
