"""A node of tests, without a process: frames go into a worker's connection, and the parts of its answers are collected."""

import asyncio
import struct

from helve import _http as http
from helve import _wire as wire
from helve import serve
from helve._encoding import RAW, parse_envelope
from helve._worker import Worker
from helve.serve.deployment import Deployment, methods_of

PART = struct.Struct("<IB")
BODY_KINDS = (http.BODY, http.TRAILERS, http.LAST, http.BROKEN, http.CLOSE, http.TEXT, 99)


class Answer:
    """What has come of one exchange."""

    def __init__(self):
        self.parts = []  # (kind, data)
        self.ended = self.error = None
        self.allowed = [0, 0]  # parts and bytes
        self.writes = 0

    def kinds(self):
        return [kind for kind, _ in self.parts]

    @property
    def status(self):
        return next((int.from_bytes(d[:2], "little") for k, d in self.parts if k == http.HEAD), None)

    @property
    def headers(self):
        """All header fields of the head, as pairs of text."""
        return pairs(next(d for k, d in self.parts if k == http.HEAD)[2:])

    @property
    def body(self):
        return b"".join(d for k, d in self.parts if k == http.BODY)

    @property
    def text(self):
        return self.body.decode()


def pairs(data):
    fields = data.decode("latin-1").split("\0") if data else []
    return list(zip(fields[::2], fields[1::2]))


def head(method="GET", path="/", query="", headers=(), root="", scheme="http", version="1.1", client=("127.0.0.1", 5000), server=("127.0.0.1", 8000)):
    fields = [method, scheme, version, path, query, root, *map(str, client), *map(str, server), "host", "localhost"]
    for name, value in headers:
        fields += [name, value]
    return "\0".join(fields).encode("latin-1")


class Node:
    """A worker with one replica, and the node's end of its connection."""

    def __init__(self, target, *args, middlewares=(), pool=False):
        self.loop = asyncio.new_event_loop()
        self.worker = w = Worker(self.loop)
        if pool:
            from helve._threads import Threads

            w.pool = Threads()
        self.data, self.closed = b"", False
        self.answers = {}
        self.ids = 0
        w.conn.connection_made(self)
        if isinstance(target, Deployment):
            target = target.func_or_class
        w.target, w.replica, w.deployment = target, "r", getattr(target, "__name__", "f")
        w.methods = methods_of(target)
        instance = target(*args) if isinstance(target, type) else target
        self.run(w.ingress.start(target, instance, list(middlewares)))
        w.instance = instance
        w.on_route(1, {"replica": "r", "method": "__call__"})

    # ---- the transport

    def write(self, data):
        self.data += bytes(data)
        self.parse()

    def close(self):
        self.closed = True

    abort = close

    def set_write_buffer_limits(self, high):
        pass

    def get_write_buffer_size(self):
        return 0

    def parse(self):
        touched = set()
        while len(self.data) >= 16:
            body, meta, kind, flags, id = wire.HEADER.unpack_from(self.data)
            end = 16 + meta + body
            if len(self.data) < end:
                break
            m, b = self.data[16 : 16 + meta], self.data[16 + meta : end]
            self.data = self.data[end:]
            a = self.answers.get(id)
            if kind == wire.GOAWAY:
                self.goaway = b.decode()
                continue
            touched.add(id)
            if kind == wire.ITEMS:
                assert a.ended is None, "parts behind the end"
                while b:
                    size, part = PART.unpack_from(b)
                    assert size <= http.MOST + 2 + 65536
                    a.parts.append((part, b[5 : 5 + size]))
                    b = b[5 + size :]
            elif kind == wire.END:
                assert a.ended is None, "two ends"
                a.ended = True
                if flags & wire.FLAG_ERROR:
                    a.error = parse_envelope(b)
            elif kind == wire.ALLOW:
                items, size = wire.WINDOW.unpack(m)
                a.allowed[0] += items
                a.allowed[1] += size
            else:
                raise AssertionError(f"frame of type {kind}")
        for id in touched:
            if id in self.answers:
                self.answers[id].writes += 1

    # ---- the node's side

    def run(self, coro):
        return self.loop.run_until_complete(asyncio.wait_for(coro, 60))

    def feed(self, data):
        """Gives the worker bytes in one read, on the loop."""

        def read():
            self.worker.conn.get_buffer(-1)[: len(data)] = data
            self.worker.conn.buffer_updated(len(data))

        self.loop.call_soon(read)
        self.turn()

    def turn(self, n=1):
        for _ in range(n):
            self.loop.run_until_complete(asyncio.sleep(0))

    def until(self, condition):
        async def look():
            while not condition():
                await asyncio.sleep(0.001)

        self.run(look())

    def call(self, raw_head, body=b"", more=False, kind=http.REQUEST, window=(256, 1 << 20), model=""):
        """Sends a CALL, and returns its id."""
        self.ids += 1
        tail = wire.entry(b"window", wire.WINDOW.pack(*window)) + wire.entry(b"http", bytes((kind, 1 if more else 0)))
        if model:
            tail += wire.entry(b"model", model.encode())
        slots = wire.SLOT.pack(1, RAW, 0, len(raw_head)) + (wire.SLOT.pack(1, RAW, 1, len(body)) if body else b"")
        meta = wire.CALL_META.pack(1, 1, 0, 2 if body else 1, 0, bytes(16), bytes(16), bytes(8), self.ids) + slots + tail
        self.answers[self.ids] = Answer()
        self.feed(wire.HEADER.pack(len(raw_head) + len(body), len(meta), wire.CALL, 0, self.ids) + meta + raw_head + body)
        return self.ids

    def upload(self, id, *parts):
        body = b"".join(PART.pack(len(d), k) + d for k, d in parts)
        self.feed(wire.HEADER.pack(len(body), 0, wire.UPLOAD, 0, id) + body)

    def cancel(self, id):
        self.feed(wire.HEADER.pack(0, 0, wire.CANCEL, 0, id))

    def credit(self, id, items, size):
        self.feed(wire.HEADER.pack(0, 8, wire.CREDIT, 0, id) + wire.WINDOW.pack(items, size))

    def ended(self, id):
        a = self.answers[id]
        self.until(lambda: a.ended)
        return a

    def request(self, method="GET", path="/", body=b"", **kwargs):
        """The answer to a request whose body comes with it."""
        return self.ended(self.call(head(method, path, **kwargs), body))

    def socket(self, path="/", headers=()):
        return self.call(head("GET", path, headers=headers), kind=http.SOCKET)

    def stop(self):
        self.run(self.worker.stop_replica(1))
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.turn(3)
        self.loop.close()


def raw(app):
    """A class that serves a raw ASGI application."""

    @serve.ingress(app)
    class Raw:
        pass

    return Raw
