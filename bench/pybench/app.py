"""The deployments of the Python rows: the measuring loop runs in the calling replica."""

import asyncio
import os

from pybench.loops import PAYLOAD, measure


class Echo:
    async def echo(self, value):
        return value

    def echo_sync(self, value):
        return value


class Caller:
    def __init__(self, echo):
        self.echo, self.echo_sync = echo.echo, echo.echo_sync

    async def run(self, seconds, in_flight, per_second, sync, size):
        method = self.echo_sync if sync else self.echo
        payload = b"x" * size if size else PAYLOAD
        return await measure(lambda: method.remote(payload), seconds, in_flight, per_second, payload)


class Blob:
    """The links of a chain: one makes a value, one passes it on, one looks at it."""

    async def make(self, n):
        return bytes(n)

    async def echo(self, value):
        return value

    async def size(self, value):
        return len(value)


class Work:
    """20 ms of work, and the process that has done it."""

    async def work(self, _: str) -> str:
        await asyncio.sleep(0.02)
        return f"1 {os.getpid()}"
