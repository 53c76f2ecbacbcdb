"""Heartbeats of server-sent events."""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable

from helve._frames import monotonic

PERIOD = 15.0  # seconds, as in the node (internal/proxy/events.go)


class Heartbeat:
    """Sends a comment for every 15 seconds without an event, so that proxies on the way keep the connection. The lock is held while an event
    or a comment is sent: a comment must not come between two pieces of one event.

    A generator that is no coroutine and runs on the loop has no heartbeat: nothing else runs while it waits.
    """

    def __init__(self, begin: Callable[[], Awaitable[None]], send: Callable[[bytes], Awaitable[None]]):
        self.begin, self.send = begin, send  # begin sends the head of the answer, unless that was sent
        self.lock = asyncio.Lock()
        self.last = monotonic()
        self.task = asyncio.get_running_loop().create_task(self.run())

    async def run(self) -> None:
        while True:
            idle = monotonic() - self.last
            if idle < PERIOD:
                await asyncio.sleep(PERIOD - idle)
                continue
            async with self.lock:
                await self.begin()
                await self.send(b":\n\n")
                self.last = monotonic()

    async def event(self, data: bytes) -> None:
        async with self.lock:
            await self.begin()
            await self.send(data)
            self.last = monotonic()

    async def stop(self) -> Any:
        """Ends the heartbeats. A failure of one is a client that has left, which the stream finds by itself."""
        self.task.cancel()
        await asyncio.wait([self.task])
        return self.task.cancelled() or self.task.exception()


__all__ = ["Heartbeat"]
