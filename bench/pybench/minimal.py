"""The two ends of the minimal relay: pickled arguments in frames, an eager task per call, one write per read, and nothing
of what a library needs: no ids of requests, deadlines, errors, cancellation, codecs or several replicas."""

import asyncio
import json
import os
import pickle
import struct
import sys
from collections import deque

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from pybench.loops import PAYLOAD, measure, measure_streams  # noqa: E402

HEAD = struct.Struct("<IIQ")
CALL, RESULT, CALL_SYNC, ITEM, STREAM = 1, 2, 3, 4, 5


class Items:
    """The items of a stream at its caller. There is no limit to how many may wait."""

    def __init__(self, loop):
        self.loop, self.ready, self.ended, self.waiter = loop, deque(), False, None

    def put(self, item):
        self.ready.append(item)
        self.wake()

    def set_result(self, _):
        self.ended = True
        self.wake()

    def wake(self):
        if self.waiter is not None:
            self.waiter.set_result(None)
            self.waiter = None

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not self.ready:
            if self.ended:
                raise StopAsyncIteration
            self.waiter = self.loop.create_future()
            await self.waiter
        return self.ready.popleft()


class Conn(asyncio.BufferedProtocol):
    def __init__(self, loop):
        self.loop = loop
        self.buf = memoryview(bytearray(256 << 10))
        self.lo = self.hi = 0
        self.out, self.reading, self.scheduled = [], False, False
        self.pending, self.next = {}, 0

    def connection_made(self, transport):
        self.write = transport.write

    def connection_lost(self, exc):
        os._exit(0)

    def get_buffer(self, hint):
        return self.buf[self.hi :]

    def buffer_updated(self, n):
        self.hi += n
        self.reading = True
        buf = self.buf
        while self.hi - self.lo >= 16:
            size, kind, id = HEAD.unpack_from(buf, self.lo)
            start, end = self.lo + 16, self.lo + 16 + size
            if end > self.hi:
                break
            self.lo = end
            if kind == CALL:
                self.eager(self.serve(id, pickle.loads(buf[start:end])))
            elif kind == CALL_SYNC:
                args = pickle.loads(buf[start:end])
                self.put(RESULT, id, pickle.dumps(self.echo_sync(*args[0], **args[1]), 5))
            elif kind == STREAM:
                self.eager(self.serve_stream(id, pickle.loads(buf[start:end])))
            elif kind == ITEM:
                self.pending[id].put(pickle.loads(buf[start:end]))
            else:
                self.pending.pop(id).set_result(pickle.loads(buf[start:end]))
        if self.lo == self.hi:
            self.lo = self.hi = 0
        elif len(buf) - self.lo < 64 << 10:
            left = bytes(buf[self.lo : self.hi])
            buf[: len(left)] = left
            self.lo, self.hi = 0, len(left)
        self.reading = False
        if self.out:
            self.flush()

    def put(self, kind, id, body):
        self.out.append(HEAD.pack(len(body), kind, id))
        self.out.append(body)
        if not self.reading and not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.flush)

    def flush(self):
        self.scheduled = False
        out, self.out = self.out, []
        if out:
            self.write(b"".join(out))

    def eager(self, coro):
        if sys.version_info >= (3, 12):
            return asyncio.Task(coro, loop=self.loop, eager_start=True)
        steps = []
        self.loop.call_soon = lambda f, *a, context=None: steps.append((f, context))
        try:
            task = asyncio.Task(coro, loop=self.loop)
        finally:
            del self.loop.call_soon
        f, context = steps.pop()
        context.run(f)
        return task

    async def serve(self, id, args):
        self.put(RESULT, id, pickle.dumps(await self.echo(*args[0], **args[1]), 5))

    async def serve_stream(self, id, args):
        async for item in self.items(*args[0]):
            self.put(ITEM, id, pickle.dumps(item, 5))
        self.put(RESULT, id, pickle.dumps(None, 5))

    async def items(self, n):
        for i in range(n):
            yield i

    async def echo(self, value):
        return value

    def echo_sync(self, value):
        return value

    def call(self, kind, *args, **kwargs):
        self.next += 1
        future = self.pending[self.next] = Items(self.loop) if kind == STREAM else self.loop.create_future()
        self.put(kind, self.next, pickle.dumps((args, kwargs), 5))
        return future


async def main(role, sock):
    loop = asyncio.get_running_loop()
    conn = Conn(loop)
    await loop.create_unix_connection(lambda: conn, sock)
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):  # the callee waits for the end of it
        r = json.loads(line)
        if streams := r.pop("streams", 0):
            print(json.dumps(await measure_streams(lambda: conn.call(STREAM, r["size"]), streams, r["size"], r["seconds"])), flush=True)
            continue
        kind = CALL_SYNC if r.pop("sync") else CALL
        payload = b"x" * r.pop("size") or PAYLOAD
        print(json.dumps(await measure(lambda: conn.call(kind, payload), payload=payload, **r)), flush=True)


try:
    import uvloop

    uvloop.install()
except ImportError:
    pass
asyncio.run(main(sys.argv[1], sys.argv[2]))
