"""The Python twin of Subject in subject_test.go."""

import asyncio
import os
import time

from helve import serve
from helve.serve import get_replica_context
from helve._wire import request_info


class Quota(Exception):
    pass


class Subject:
    def __init__(self, prefix="", downstream=None):
        self.prefix, self.downstream = prefix, downstream
        self.now = self.most = 0
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()

    async def echo(self, value: str) -> str:
        return self.prefix + value

    def echo_sync(self, value):
        return value

    async def bytes(self, value):
        assert isinstance(value, bytes)
        return value

    async def add(self, x, y=0, *, labels=None, at=None):
        return {"sum": x + y, "labels": labels or {}, "at": at}

    async def list(self, values):
        return [v * 2 for v in values]

    async def nothing(self):
        return None

    async def fail(self, text):
        raise Quota(text)

    async def panic(self):
        return {}["boom"]

    async def block(self):
        self.started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def await_started(self):
        await self.started.wait()

    async def await_cancelled(self):
        await self.cancelled.wait()

    async def work(self, ms):
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(ms / 1000)
        self.now -= 1
        return self.most

    async def request_id(self):
        return request_info.get().request_id

    async def replica(self):
        return get_replica_context().replica_id

    async def pid(self):
        return os.getpid()

    async def record(self, file, id, ms, pad=b""):
        with open(file, "ab", buffering=0) as f:
            f.write((id + "\n").encode())
        await asyncio.sleep(ms / 1000)
        return id

    async def via(self, name):
        return await self.downstream.say_hi.remote(name)

    async def via_args(self, x):
        return await self.downstream.sum.remote(x=x, y=2)

    async def via_codec(self, codec):
        down = self.downstream.options(request_serialization=codec, response_serialization=codec)
        assert await down.sum.remote({"x": 40, "y": 1}) == 41
        return await down.sum.remote(x=40, y=2)

    async def via_instance(self, codec):
        return await self.downstream.options(request_serialization=codec).sum.remote(x=Quota("no plain data"))

    async def via_bad(self, x):
        return await self.downstream.sum.remote(x=x, z=2)

    async def via_fail(self, text):
        return await self.downstream.fail.remote(text)

    async def via_left(self):
        return await self.downstream.left.remote()

    async def left(self):
        d = request_info.get().deadline
        return None if d is None else d - time.monotonic()


class Stuck:
    def __init__(self):
        time.sleep(3600)

    async def echo(self, value):
        return value


class Raises:
    def __init__(self):
        raise ValueError("no weights")

    async def echo(self, value):
        return value


@serve.deployment
class Decorated:
    async def __call__(self, name: str) -> str:
        return f"Hello {name}!"
